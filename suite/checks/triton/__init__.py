"""Checks of the Triton kernels."""

#: The implementation that is written in Triton.
TRITON = "batched_cuda"
