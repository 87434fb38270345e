"""Checks of what is special to the C++ and the Triton kernels."""
