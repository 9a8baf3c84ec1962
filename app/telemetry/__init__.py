"""Metrics, tracing and logs: the ground floor, which imports nothing else of the service."""
