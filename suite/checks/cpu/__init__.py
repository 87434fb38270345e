"""Checks of the C++ of `batched_cpu`."""
