"""Loads the compiled library: the wheel's, or one built on this machine at first use."""

import ctypes
import os
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch

from ..definition import dtype_name
from . import build, sets
from .arguments import Arguments, BackwardArguments, ForwardArguments, ParamArrays

#: The functions of torch's C interfaces and of OpenMP in torch.h, in its order.
_FUNCTIONS = (
    "aoti_torch_empty_strided",
    "aoti_torch_create_tensor_from_blob",
    "aoti_torch_get_data_ptr",
    "aoti_torch_delete_tensor_object",
    "aoti_torch_cpu_mm_out",
    "aoti_torch_cpu_addmm_out",
    "torch_get_num_threads",
)
_OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "omp_in_parallel")
#: The callback by which C++ gets memory for gradients, see backward.cpp.
ALLOCATE = ctypes.CFUNCTYPE(None, ctypes.py_object, ctypes.POINTER(ParamArrays))


class Outcome(IntEnum):
    """How a call of the library ended, see outcome.h."""

    DONE = 0
    OUT_OF_MEMORY = 1
    FAILED = 2


@dataclass(frozen=True)
class Failure:
    """Reason for a missing library, in sentences, and the output of the build."""

    reason: str
    output: str = ""


class Library:
    """Functions of a loaded library for a dtype.

    instruction_set: its own, by default that of `sets.instruction_set`.
    """

    def __init__(self, path: Path, dtype: torch.dtype, instruction_set: str = "") -> None:
        self.path, self.dtype = path, dtype
        self.instruction_set = instruction_set or sets.instruction_set(dtype)
        self._library = ctypes.CDLL(str(path))
        self._library.hyperlstm_sources.restype = self._library.hyperlstm_message.restype = ctypes.c_char_p
        if self._library.hyperlstm_sources().decode() != build.sources():
            raise OSError("it was compiled from other sources")
        self.start({})
        if dtype == torch.bfloat16:  # a wheel's library also has other dtypes, which must not change the way
            self._choose_way()
        #: The functions of forward.cpp and backward.cpp; each returns an `Outcome`, for `check`.
        self.forward = self._pass("forward", ForwardArguments)
        self.backward = self._pass("backward", BackwardArguments, ALLOCATE, ctypes.py_object)

    def start(self, replaced: Mapping[str, Any]) -> None:
        """Give it the functions of torch.h; replaced: those to take instead of some, by name, or None for none."""
        # The lookup includes its dependencies: torch's C++ library, and the OpenMP library that this loads.
        torch_library = ctypes.CDLL(torch._C.__file__)
        addresses = []
        for name in (*_FUNCTIONS, *_OPENMP):
            function = replaced[name] if name in replaced else getattr(torch_library, name, None)
            addresses.append(None if function is None else ctypes.cast(function, ctypes.c_void_p).value)
        self._library.hyperlstm_start((ctypes.c_void_p * len(addresses))(*addresses))

    def _choose_way(self) -> None:
        self._library.hyperlstm_use_tiles.restype = ctypes.c_bool
        wanted = sets.way() == sets.WAYS[-1]
        if self._library.hyperlstm_use_tiles(wanted) == wanted:
            return
        refused, named = "batched_cpu: the system does not let this process use AMX", os.environ.get(sets.WAY_VARIABLE)
        if named:
            raise sets.WayError(f"{refused}, which {sets.WAY_VARIABLE}={named} asks for.")
        warnings.warn(f"{refused}. It multiplies bfloat16 by AVX512-BF16, which is slower.", stacklevel=2)

    def _pass(self, name: str, read: type[Arguments], *types: Any) -> Callable[..., Any]:
        """The function of a pass, which reads a structure; TypeError if that has another size in C++.

        Then arguments.py is wrong, which must not look as if batched_cpu were unavailable.
        """
        expected, here = self._library[f"hyperlstm_bytes_of_{name}"](), ctypes.sizeof(read)
        if here != expected:
            raise TypeError(
                f"batched_cpu: {read.__name__} has {expected} bytes in arguments.h, but {here} in arguments.py"
            )
        return self.function(name, ctypes.POINTER(read), *types)

    def function(self, name: str, *types: Any) -> Callable[..., Any]:
        """The exported function of that name; types: types of its arguments."""
        function = self._library[f"hyperlstm_{name}_{dtype_name(self.dtype)}_{self.instruction_set}"]
        function.restype, function.argtypes = ctypes.c_int32, types
        return function

    def check(self, outcome: int) -> None:
        """Raise torch.OutOfMemoryError or RuntimeError if a call by this thread, its last, did not succeed."""
        if outcome == Outcome.DONE:
            return
        if outcome == Outcome.OUT_OF_MEMORY:
            raise torch.OutOfMemoryError("batched_cpu: not enough memory")
        raise RuntimeError(f"batched_cpu: {self._library.hyperlstm_message().decode()}")


def library(dtype: torch.dtype) -> Library:
    """Library for a dtype, built at the first call; RuntimeError with the reason if that fails."""
    result = _result(dtype)
    if isinstance(result, Failure):
        raise RuntimeError(f"{result.reason}\n{result.output}")
    return result


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if the library can be loaded, which builds it at the first call, else the reason."""
    result = _result(dtype)
    return result.reason if isinstance(result, Failure) else None


def compiles_first(device: torch.device, dtype: torch.dtype) -> bool:
    """True if the first call in a dtype would compile the library, which takes seconds."""
    if dtype in _results or (build.FOLDER / build.LIBRARY).exists():
        return False
    try:
        folder = build.folder_of(sets.parts(dtype), build.extra_flags())
        return not build.intact(folder / build.LIBRARY) and shutil.which(build.compiler()[0]) is not None
    except (sets.WayError, ValueError, OSError, RuntimeError):  # `why_unavailable` says it in a sentence
        return False


_lock = threading.Lock()
#: What each dtype's first call found or built; a failed build is not repeated in the same process.
_results: dict[torch.dtype, Library | Failure] = {}


def _result(dtype: torch.dtype) -> Library | Failure:
    with _lock:
        if dtype not in _results:
            _results[dtype] = _find_or_build(dtype)
        return _results[dtype]


def _find_or_build(dtype: torch.dtype) -> Library | Failure:
    shipped = build.FOLDER / build.LIBRARY
    try:
        return _of_wheel(shipped, dtype) if shipped.exists() else _of_builds(dtype)
    except sets.WayError as error:
        return Failure(str(error))


def _of_builds(dtype: torch.dtype) -> Library | Failure:
    try:
        parts, flags = sets.parts(dtype), build.extra_flags()
        folder = build.folder_of(parts, flags)
        if not build.intact(folder / build.LIBRARY):
            if shutil.which(command := build.compiler()[0]) is None:
                return _failure(f"it takes a C++ compiler, and {command!r} is not on the path", "a compiler")
            build.build(folder, parts, flags)
        return Library(folder / build.LIBRARY, dtype)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.output.splitlines() if "error" in line] or error.output.splitlines()
        said = lines[0].strip() if lines else f"the compiler exits with {error.returncode}"
        return _failure(said, "another compiler, named by CXX,", error.output)
    except sets.WayError:
        raise
    except ValueError as error:
        return _failure(
            f"CXX or {build.FLAGS_VARIABLE} is no command line: {error}", "another value of these variables"
        )
    except build.NoRoomError as error:
        return _failure(str(error), f"{error.variable} set to a folder with room")
    except (OSError, RuntimeError) as error:
        return _failure(str(error), f"{build.BUILDS_VARIABLE} set to a folder that can be written")


def _failure(why: str, remedy: str, output: str = "") -> Failure:
    helps = f"{remedy[0].upper()}{remedy[1:]} helps, or the wheel, which has it compiled"
    return Failure(f"batched_cpu could not be built: {why}. {helps}.", output)


def _of_wheel(path: Path, dtype: torch.dtype) -> Library | Failure:
    why = "it is incomplete"
    if build.intact(path):
        try:
            return Library(path, dtype)
        except (OSError, AttributeError) as error:
            why = str(error)
    helps = "Installing the wheel for this machine again helps, or deleting this file: then it is built"
    return Failure(f"The library of batched_cpu in the wheel, {path}, does not fit: {why}. {helps}.")
