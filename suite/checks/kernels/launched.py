"""Launches of a training step of `batched_cuda` at full size, without a GPU.

`launched` records the launches on meta tensors; nothing is computed. `stand_in` replaces Triton's driver by one that
starts nothing, so that Triton's own launch code runs and shows what a GPU would get.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from impls import HyperLSTM
from impls.definition import Inputs, LayerParams, LayerState, Mask
from impls.gradient import chunks, operator
from impls.registry import find
from suite.shared.cases import Case

META = torch.device("meta")
#: No sequence is cut into chunks.
WHOLE = chunks.Limits(forward=1 << 62, backward=1 << 62, rows=1 << 62)


class Launch(NamedTuple):
    """One kernel as a pass starts it: its arguments and constants, and Triton's options, by name."""

    kernel: Any
    programs: int
    values: Mapping[str, Any]
    options: Mapping[str, Any]


class Counting(TorchDispatchMode):
    """Names of the torch operators that are called, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.called = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.append(func._schema.name.split("::")[1])
        return func(*args, **(kwargs or {}))


def training_step(
    case: Case, dtype: torch.dtype, device: torch.device = META, counting: AbstractContextManager[Any] | None = None
) -> None:
    """Run a training step of one layer at a case's sizes, on zeros; without training, forward without gradient.

    counting: open around it.
    """
    I, H, S, Z, B = case.I, case.H, case.S, case.Z, case.B
    layer = HyperLSTM(I, H, S, Z, 1, layer_norm=case.layer_norm, device=META, dtype=dtype).to_empty(device=device)
    p = LayerParams._make(getattr(layer.layers[0], name) for name in LayerParams._fields)
    batch_sizes = [sum(length > t for length in case.lengths) for t in range(case.T)] if case.lengths else []
    over = (sum(batch_sizes),) if batch_sizes else (case.T, B)
    x, d_out = (torch.zeros(*over, F, device=device, dtype=dtype) for F in (I, H))
    s = LayerState(*(torch.zeros(B, F, device=device, dtype=dtype) for F in (H, H, S, S)))
    keep_mask = torch.ones(*over, H, device=device, dtype=torch.bool)
    mask = Mask(keep_mask, 1 / (1 - case.recurrent_dropout)) if case.recurrent_dropout else None
    observed = mock.patch.object(operator, "_observed", return_value=False)
    with counting or nullcontext(), observed, torch.set_grad_enabled(case.training):
        out, _ = find("batched_cuda").run(p, Inputs(x, s, mask, batch_sizes))
        if case.training:
            torch.autograd.grad(out, p.present(), d_out)


def launched(
    case: Case, card: Any, dtype: torch.dtype, arithmetic: str, residuals: bool = True, alone: bool | None = None
) -> list[Launch]:
    """Launches of `training_step` on a card, forward first.

    arithmetic: that of `split.Sizes`. residuals: whether they are saved. alone: as `either_split`; the fastest if None.
    """
    from impls.batched_cuda import launching  # imports Triton, which may be missing

    launches = list[Launch]()

    def start(kernel: Any, programs: int, values: Mapping[str, Any], device: torch.device, **options: Any) -> None:
        launches.append(Launch(kernel, programs, {name: values[name] for name in kernel.arg_names}, options))

    splits = nullcontext() if alone is None else either_split(alone)
    with on(card, arithmetic, residuals), splits, mock.patch.object(launching, "start", start):
        training_step(case, dtype)
    return launches


@contextmanager
def on(card: Any, arithmetic: str, residuals: bool = True) -> Iterator[None]:
    """Have every device taken for a card that multiplies in an arithmetic, while this is open."""
    from impls.batched_cuda import layout
    from impls.batched_cuda.split import Card

    with (
        mock.patch.object(Card, "of", return_value=card),
        mock.patch.object(layout, "arithmetic", return_value=arithmetic),
        mock.patch.dict(chunks._LIMITS, dict.fromkeys(("meta", "cpu"), replace(WHOLE, residuals=residuals))),
    ):
        yield


@contextmanager
def either_split(alone: bool) -> Iterator[None]:
    """Split passes into groups of one member, or of several where the card has so many multiprocessors, while open."""
    from impls.batched_cuda import split

    def fastest(step: split.Step) -> Callable[[split.Sizes, split.Card], split.Split]:
        def cut(sizes: split.Sizes, card: split.Card) -> split.Split:
            splits = [step(sizes, card, one) for one in split.candidates(sizes, card, step is split.forward_step)]
            return min([one for one in splits if one.alone == alone] or splits, key=split.cost)

        return cut

    with (
        mock.patch.object(split, "forward", fastest(split.forward_step)),
        mock.patch.object(split, "backward", fastest(split.backward_step)),
    ):
        yield


class Driver:
    """A Triton driver for a card that is not here: it records what it is asked to start."""

    def __init__(self, capability: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.stream, self.started, self.utils = 0, list[Started](), self
        self.get_current_target = lambda: GPUTarget("cuda", capability, 32)
        self.get_current_device = lambda: capability
        self.get_current_stream = lambda device: self.stream
        self.get_device_properties = lambda device: {"max_shared_mem": 227 << 10}  # which Triton reads to load a kernel
        self.load_binary = lambda *_: (1, 1, 64, 0, 1024)  # a module, a function, its registers, spills and threads

    def launcher_cls(self, source: Any, metadata: Any) -> Any:

        def start(x: int, y: int, z: int, stream: int, *arguments: Any) -> None:
            tensors = [q for q in arguments if isinstance(q, Tensor)]
            counters = [q for q in tensors if q.dtype == torch.int32]
            with _disable_current_modes():  # so that these operators are not counted
                zero = all(not q.count_nonzero() for q in counters if q.device.type != "meta")
            cooperative = bool(metadata.launch_cooperative_grid)
            self.started.append(Started(metadata.name, (x, y, z), stream, cooperative, zero))

        return start


class Started(NamedTuple):
    """A launch as a driver sees it."""

    name: str
    grid: tuple[int, int, int]
    stream: int
    cooperative: bool
    zero: bool  # whether the counters of arrivals are


#: One per card, since Triton keeps a loaded kernel with the driver that loaded it.
_driver = cache(Driver)


@contextmanager
def stand_in(capability: int, stream: int = 0) -> Iterator[Driver]:
    """Replace Triton's driver while this is open."""
    import triton

    driver = _driver(capability)
    driver.stream, driver.started = stream, []
    with mock.patch.object(triton.runtime.driver, "_active", driver):
        yield driver
