"""Verification and benchmark of the implementations, which are found in their registry."""
