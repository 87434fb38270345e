"""Checks of the C++ and the Triton kernels."""
