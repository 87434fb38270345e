"""Checks that a wrong implementation would be found."""
