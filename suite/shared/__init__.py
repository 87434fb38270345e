"""Shared by all of the suite: the machine, its devices, arithmetic, files, texts, processes, memory, marks of tests."""
