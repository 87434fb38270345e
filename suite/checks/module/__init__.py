"""Checks that it behaves as a torch module."""
