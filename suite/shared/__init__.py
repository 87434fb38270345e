"""Shared by all of the suite: the machine, files, child processes, and memory of a pass."""
