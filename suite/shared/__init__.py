"""Shared by all of the suite: cases, the oracle and its rule, candidates, child processes, rows of results."""
