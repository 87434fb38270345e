"""What there is around a call: the line that made it, torch that traces or transforms it, edits of saved tensors."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch.autograd import forward_ad

F = TypeVar("F", bound=Callable[..., Any])
#: What torch says in backward of a saved tensor that was changed since, and of one of several views whose base was.
_SAID_OF_EDITS = ("modified by an inplace operation", "modified inplace")


def constant(function: F) -> F:
    """Have torch.compile call the function while it traces, and treat the result as a constant.

    This is torch.compiler.assume_constant_result without importing the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def constant_once(function: F) -> F:
    """The same, and call it once for each set of arguments, as `functools.cache`, which torch.compile ignores."""
    cached = cache(function)

    @constant
    def call(*arguments: Any) -> Any:
        return cached(*arguments)

    call.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
    return cast(F, call)


def level_of_caller() -> int:
    """`stacklevel` of a warning that is about the line of a user which led here, through this package and torch."""
    inside = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, torch.__file__))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame, level = frame.f_back, level + 1
    return level


@constant
def in_transform() -> bool:
    """True inside a transform of torch.func or a level of forward-mode AD."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_of_an_edit(error: RuntimeError) -> bool:
    """True for torch's error, or one that quotes it, of a tensor that was saved for backward and changed since.

    The error has no type of its own, and Python cannot read which version of a tensor was saved, so only its text tells
    it from others.
    """
    return any(said in str(error) for said in _SAID_OF_EDITS)


def is_recorded() -> bool:
    """True if torch.onnx.export or torch.jit.trace records the call; neither can record our operators."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or (torch.compiler.is_exporting() and _exports_onnx())


@constant
def _exports_onnx() -> bool:
    return torch.onnx.is_in_onnx_export()
