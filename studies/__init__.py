"""What look-alikes are good for: a protocol stands in README.md before its run, and every arm is reported."""
