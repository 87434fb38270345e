"""Shared by all of the suite: the machine and its devices, arithmetic, files, processes, memory, marks of tests."""
