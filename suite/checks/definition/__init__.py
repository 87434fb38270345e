"""Checks that this is the HyperLSTM of the paper."""
