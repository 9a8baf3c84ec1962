"""Load and speed: the service against the raw runtime, and against other servers of the same networks."""
