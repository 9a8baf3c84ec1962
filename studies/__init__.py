"""Studies of what look-alikes are good for. A protocol stands in README.md before its run, and every arm is reported."""
