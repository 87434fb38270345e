"""`batched` with its step compiled: what `torch.compile` on a cell gives; the loop over steps stays in Python."""

import threading
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from . import batched
from .definition import Inputs, LayerParams, LayerState
from .gradient.batched_cotangents import refuse_batched
from .gradient.single_backward import once_differentiable
from .registry import triton_unavailable

#: Every combination of sizes, dtype, layer norm and gradient mode is a graph of its own.
GRAPHS = 256


def _step(
    w: batched.Weights, scale: float | None, v_t: Tensor, a_x_t: Tensor, kept_t: Tensor | None, s: LayerState
) -> LayerState:
    return batched.step(w, scale)(v_t, a_x_t, kept_t, s)


def _inductor(graph: torch.fx.GraphModule, example: list[Tensor]) -> Any:
    """What backend="inductor" gives, with a backward pass that may run twice.

    A backward pass that overwrites what the forward pass saved could not. Where torch was told not to look for such
    memory it notes None, and later takes that for some: here it notes that there is none.
    """
    from torch._inductor.compile_fx import compile_fx  # takes seconds to import

    compiled = compile_fx(graph, example)
    if metadata := torch._guards.TracingContext.get().fw_metadata:
        metadata.bw_donated_idxs = []
    return compiled


# With fullgraph, what cannot be compiled is an error and never a quiet return to uncompiled code.
_compiled = torch.compile(_step, fullgraph=True, backend=_inductor)
_unrolled = batched.unrolled(lambda w, scale: partial(_compiled, w, scale))
#: Held while torch's settings are others: they are the process's, so that one thread would restore them under another.
_settings = threading.RLock()


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if torch.compile can compile for the device, else the reason in a sentence."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "compiled needs Triton on a GPU; it is not installed."
        return triton_unavailable()
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import

    try:
        get_cpp_compiler()
    except Exception as error:
        return f"compiled needs a C++ compiler, and torch finds none: {' '.join(str(error).split())}"
    return None


def _once(value: Tensor | None) -> Any:
    return value if value is None or not value.requires_grad else once_differentiable(value, "compiled")


def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps; the first call with new sizes, or in a new mode, compiles for many seconds.

    Returns out [T, B, H] and the last state. Inside a caller's torch.compile or torch.export the step is compiled as
    part of that, and torch.jit.trace records it uncompiled. A second derivative raises NotImplementedError.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or inputs.x.is_meta:  # type: ignore[attr-defined]
        return batched.run(p, inputs)
    if torch.is_grad_enabled():
        p, start = LayerParams._make(map(_once, p)), LayerState._make(map(_once, inputs.start))
        # As the states of all later steps do, so that the first step needs no graph of its own.
        start = LayerState(*(part if part.requires_grad else part.detach().requires_grad_() for part in start))
        inputs = inputs._replace(x=_once(inputs.x), start=start)
    with (
        _settings,
        torch._dynamo.config.patch(recompile_limit=GRAPHS, accumulated_recompile_limit=GRAPHS),
        # See _inductor. Torch's cache of graphs keeps no note of it; code compiled for a graph is cached all the same.
        torch._functorch.config.patch(donated_buffer=False, enable_autograd_cache=False),
    ):
        out, last = _unrolled(p, inputs)
    for result in (out, *last):
        refuse_batched("compiled", result)
    return out, last
