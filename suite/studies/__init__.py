"""Measures what an implementation costs as sizes grow."""
