"""Memory of `batched_cpu` in tests: arrays filled with NaN, each between pages that end the process if it touches them.

On Linux alone.
"""

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from impls.batched_cpu import loading

_NUMBERS = ctypes.POINTER(ctypes.c_int64)
_HANDLE = ctypes.POINTER(ctypes.c_void_p)
#: Types of torch's functions that are replaced, see torch.h.
_EMPTY = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, _NUMBERS, _NUMBERS, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, _HANDLE
)
_ADDRESS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, _HANDLE)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)

_NO_ACCESS = 0
_READ_AND_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
#: All bits set: NaN in every floating-point dtype.
_NAN = 0xFF


@contextmanager
def started_with(library: loading.Library, functions: Mapping[str, Any]) -> Iterator[None]:
    """Let a library call these functions in place of torch's and OpenMP's of the same names, while the context is open.

    functions: by name; None for one that is missing.
    """
    library.start(functions)
    try:
        yield
    finally:
        library.start({})


class Guarded:
    """Arrays on pages of their own, at the end of these or at their begin.

    live: bytes that a library has.
    """

    def __init__(self, *, at_end: bool) -> None:
        self.at_end = at_end
        self.live = 0
        #: By the address of each array: that of its pages, their bytes, and its own bytes.
        self._arrays: dict[int, tuple[int, int, int]] = {}
        self._libc = ctypes.CDLL(None)
        pages, number = ctypes.c_void_p, ctypes.c_size_t
        self._libc.mmap.restype = pages
        self._libc.mmap.argtypes = (pages, number, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
        self._libc.mprotect.argtypes = (pages, number, ctypes.c_int)
        self._libc.munmap.argtypes = (pages, number)

    def placed(self, value: Tensor) -> Tensor:
        """A copy of a tensor."""
        return self.like(value).copy_(value)

    def like(self, value: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        """A contiguous tensor of the same shape, filled with NaN; for torch.empty_like."""
        dtype = dtype or value.dtype
        n = value.numel() * dtype.itemsize
        memory = (ctypes.c_char * n).from_address(self._take(n))
        return torch.frombuffer(memory, dtype=dtype).view(value.shape)

    def zeros_like(self, value: Tensor, **options: Any) -> Tensor:
        """The same, filled with zeros."""
        return self.like(value, **options).zero_()

    @contextmanager
    def of(self, library: loading.Library) -> Iterator[None]:
        """Give a library all its memory, while the context is open."""
        delete_of_torch = _DELETE(("aoti_torch_delete_tensor_object", ctypes.CDLL(torch._C.__file__)))

        def empty(_: int, sizes: Any, strides: Any, dtype: int, device: int, index: int, tensor: Any) -> int:
            tensor[0] = self._take(sizes[0])
            self.live += sizes[0]
            return 0

        def address(tensor: int, memory: Any) -> int:
            memory[0] = tensor
            return 0

        def delete(tensor: int) -> int:
            if tensor not in self._arrays:  # a view of one
                return int(delete_of_torch(tensor))
            self.live -= self._arrays[tensor][-1]
            self._free(tensor)
            return 0

        functions = {
            "aoti_torch_empty_strided": _EMPTY(empty),
            "aoti_torch_get_data_ptr": _ADDRESS(address),
            "aoti_torch_delete_tensor_object": _DELETE(delete),
        }
        with started_with(library, functions):
            yield

    def close(self) -> None:
        """Free all arrays; no tensor may be used any more."""
        for array in [*self._arrays]:
            self._free(array)

    def _take(self, n: int) -> int:
        """Address of n bytes."""
        whole = -(-n // mmap.PAGESIZE) * mmap.PAGESIZE
        total = whole + 2 * mmap.PAGESIZE
        pages = self._libc.mmap(None, total, _NO_ACCESS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        begin = pages + mmap.PAGESIZE
        if self._libc.mprotect(begin, whole, _READ_AND_WRITE) != 0:
            raise MemoryError(f"expected {n} bytes, but there is no memory for them")
        array: int = begin + whole - n if self.at_end else begin
        ctypes.memset(array, _NAN, n)
        self._arrays[array] = pages, total, n
        return array

    def _free(self, array: int) -> None:
        pages, total, _ = self._arrays.pop(array)
        self._libc.munmap(pages, total)
