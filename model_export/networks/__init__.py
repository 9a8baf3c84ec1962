"""The networks that are trained, and the frozen ones that they learn from."""
