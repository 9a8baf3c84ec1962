"""Photographs to a set of aligned, filtered, split faces."""
