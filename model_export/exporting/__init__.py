"""From a checkpoint to the graphs and the manifest that are served."""
