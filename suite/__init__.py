"""Verification and benchmark of the implementations, which it sees through their registry alone."""
