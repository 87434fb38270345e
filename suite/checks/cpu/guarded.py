"""Memory of `batched_cpu` in tests: arrays filled with NaN, each between pages that end the process if it touches them.

On Linux alone.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from impls.batched_cpu import loading
from suite.checks.cpu.instrumented import started_with

_NUMBERS = ctypes.POINTER(ctypes.c_int64)
_HANDLE = ctypes.POINTER(ctypes.c_void_p)
#: Types of torch's functions that are replaced, see torch.h.
_EMPTY = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, _NUMBERS, _NUMBERS, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, _HANDLE
)
_ADDRESS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, _HANDLE)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)

_NO_ACCESS = 0
#: All bits set: NaN in every floating-point dtype.
_NAN = b"\xff"


@contextmanager
def guarded(library: loading.Library, *, at_end: bool) -> Iterator[Callable[[Tensor], Tensor]]:
    """Place each array that a library allocates, and each gradient, on pages of its own while the context is open.

    at_end: whether an array ends where its pages end, or else begins where they begin. Yields a function that copies a
    tensor to such an array. AssertionError if the library has not freed its memory when the context ends.
    """
    delete_of_torch = _DELETE(("aoti_torch_delete_tensor_object", ctypes.CDLL(torch._C.__file__)))
    of_library: dict[int, mmap.mmap] = {}  # by the address of the array

    def empty(_: int, sizes: Any, strides: Any, dtype: int, device: int, index: int, tensor: Any) -> int:
        pages, offset = _array(sizes[0], at_end)
        tensor[0] = _address(pages) + offset
        of_library[tensor[0]] = pages
        return 0

    def address(tensor: int, memory: Any) -> int:
        memory[0] = tensor
        return 0

    def delete(tensor: int) -> int:
        if tensor not in of_library:  # a view of one
            return int(delete_of_torch(tensor))
        del of_library[tensor]
        return 0

    def empty_like(value: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        dtype = dtype or value.dtype
        pages, offset = _array(value.numel() * dtype.itemsize, at_end)
        return torch.frombuffer(pages, dtype=dtype, count=value.numel(), offset=offset).view(value.shape)

    def zeros_like(value: Tensor, **options: Any) -> Tensor:
        return empty_like(value, **options).zero_()

    def placed(value: Tensor) -> Tensor:
        return empty_like(value).copy_(value)

    functions = {
        "aoti_torch_empty_strided": _EMPTY(empty),
        "aoti_torch_get_data_ptr": _ADDRESS(address),
        "aoti_torch_delete_tensor_object": _DELETE(delete),
    }
    with (
        started_with(library, functions),
        mock.patch.object(torch, "empty_like", empty_like),
        mock.patch.object(torch, "zeros_like", zeros_like),
    ):
        yield placed
    assert not of_library, "memory is not freed"


def _array(n: int, at_end: bool) -> tuple[mmap.mmap, int]:
    """Pages with an array of n bytes between two that cannot be accessed, and its offset there."""
    whole = -(-n // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, whole + 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for guard in (_address(pages), _address(pages) + mmap.PAGESIZE + whole):
        if _protect(guard, mmap.PAGESIZE, _NO_ACCESS) != 0:
            raise OSError(f"expected a page that cannot be accessed beside {n} bytes, but mprotect failed")
    offset = mmap.PAGESIZE + (whole - n if at_end else 0)
    pages[offset : offset + n] = _NAN * n
    return pages, offset


def _address(pages: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))


_protect = ctypes.CDLL(None).mprotect
_protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
