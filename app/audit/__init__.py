"""The audit of a face recogniser, the user's own: what it confuses, and what look-alikes do to it."""
