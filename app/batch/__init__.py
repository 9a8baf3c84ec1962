"""Whole folders of photographs: the command, its job, archives, output, and Ray."""
