"""FLOP formulas of the operators, by which `torch.utils.flop_counter.FlopCounterMode` counts them.

The count is that of the equations, which is the count of an implementation that autograd differentiates: two FLOPs for
each multiply-add, and in the backward pass nothing for what is recomputed.
"""

import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from ..definition import LayerParams

#: An operator's arguments, with shapes in place of tensors -> FLOPs.
Formula = Callable[..., int]
#: The weights, each of which multiplies one vector per step and row.
_WEIGHTS = ("weight_x", "weight_h", "hyper_weight_x", "hyper_weight_h", "hyper_weight_s", "z_weight", "d_weight")
#: Those that multiply x.
_OF_X = ("weight_x", "hyper_weight_x")


def forward(x: Sequence[int], start: Any, params: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    """FLOPs of a layer's operator: x [T, B, I], or [N, I] with packed sequences."""
    return 2 * prod(x[:-1]) * sum(_sizes(params).values())


def backward(x: Sequence[int], start: Any, params: Sequence[Sequence[int]], *rest: Any, **_: Any) -> int:
    """FLOPs of the gradient's operator: a product for each weight's gradient and one for that of its vector."""
    needs_x, *needs = rest[-1]
    needed = dict(zip(LayerParams._fields, needs[len(start) :], strict=False))
    sizes = _sizes(params)
    of_weights = sum(size for name, size in sizes.items() if needed[name])
    of_vectors = sum(size for name, size in sizes.items() if needs_x or name not in _OF_X)
    return 2 * prod(x[:-1]) * (of_weights + of_vectors)


def _sizes(params: Sequence[Sequence[int]]) -> dict[str, int]:
    """Number of elements of each weight, which are its multiply-adds per step and row."""
    shapes = dict(zip(LayerParams._fields, params, strict=False))
    return {name: prod(shapes[name]) for name in _WEIGHTS}


def count(operator: Any, formula: Formula) -> None:
    """Have counters that are open now, and later ones, count an operator; does nothing where torch's was not imported.

    A counter copies torch's formulas when it is made, which may be before this operator exists. torch's counter imports
    Triton, so it is not imported here.
    """
    if torch.compiler.is_compiling() or (counting := sys.modules.get("torch.utils.flop_counter")) is None:
        return
    packet = operator._opoverload.overloadpacket
    if packet not in counting.flop_registry:
        counting.register_flop_formula(packet)(formula)
    for mode in _get_current_dispatch_mode_stack():
        if isinstance(counter := getattr(mode, "counter", None), counting.FlopCounterMode):
            counter.flop_registry.setdefault(packet, counting.flop_registry[packet])
