"""Graphs, sessions, the manifest and the micro-batcher: nothing of faces or of HTTP."""
