"""The use cases: nothing of HTTP, of files on disk, or of processes."""
