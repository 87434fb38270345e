"""What traces or transforms a call: torch.compile, exporters, torch.func and forward-mode AD."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

F = TypeVar("F", bound=Callable[..., Any])


def constant(function: F) -> F:
    """Have torch.compile call the function while it traces, and treat the result as a constant.

    This is torch.compiler.assume_constant_result without importing the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def in_transform() -> bool:
    """True inside a transform of torch.func or a level of forward-mode AD."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_recorded() -> bool:
    """True if torch.onnx.export or torch.jit.trace records the call; neither can record our operators."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or (torch.compiler.is_exporting() and _exports_onnx())


@constant
def _exports_onnx() -> bool:
    return torch.onnx.is_in_onnx_export()
