"""The algorithm: from a set of faces to a checkpoint."""
