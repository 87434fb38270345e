"""Checks that all implementations compute the same."""
