"""Counts of what a piece of work does: torch's operators, calls of Python, and what only a first call should do."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from impls.gradient import operator
from impls.registry import IMPLS
from suite.candidates import submission
from suite.cases.case import Case, Start
from suite.shared.devices import DeviceType

#: Implementations whose arithmetic is torch's.
OF_TORCH = [impl.name for impl in IMPLS if not impl.probe and impl.name not in submission.files()]
_PLAIN = Case(T=3, B=2, I=7, H=11, S=5, Z=3, L=2, state=Start.STACKED)
#: Sizes that no other product has, and the options on which products could depend.
CASES = (
    _PLAIN,
    replace(_PLAIN, layer_norm=True),
    replace(_PLAIN, dropout=0.5, recurrent_dropout=0.5),
    replace(_PLAIN, lengths=(3, 2)),
    replace(_PLAIN, lengths=(1, 3), layer_norm=True, dropout=0.5, recurrent_dropout=0.5),
)
#: Audit events of Python that a call should not raise after the first: files, imports, libraries, processes, code.
ONCE = ("open", "import", "ctypes.dlopen", "subprocess.Popen", "os.listdir", "os.scandir", "compile", "exec")


class Operators(TorchDispatchMode):
    """Counts torch's operators that are called, views left out, also below the operators of this project.

    products: number of products of matrices, and multiply_adds theirs. number: of operators. written: elements of all
    results.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = self.multiply_adds = self.number = self.written = 0
        # Under a mode a hand-written gradient would be called as an operator, below which no mode sees anything.
        self._eager = mock.patch.object(operator, "_observed", return_value=False)

    def __enter__(self) -> "Operators":
        self._eager.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._eager.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        formula = flop_registry.get(func.overloadpacket)
        if formula:
            self.products += 1
            self.multiply_adds += formula(*args, **options, out_val=result) // 2
        if not func.is_view:
            self.number += 1
            self.written += sum(q.numel() for q in tree_leaves(result) if isinstance(q, Tensor))
        return result


def calls_of_python(work: Callable[[], object]) -> int:
    """Number of functions that the package's Python calls: its own, torch's and those in C; least of three times."""
    return min(_calls_of_python(work) for _ in range(3))  # a check of a type by an ABC is kept until a type is new


def _calls_of_python(work: Callable[[], object]) -> int:
    called = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal called
        caller = frame.f_back if event == "call" else frame
        called += event in ("call", "c_call") and caller is not None and _in_package(caller)

    gc.disable()  # finalisers are called, too
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return called


def _in_package(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).split(".")[0] == "impls"


_raised: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _raised is not None and event in ONCE:
        _raised.append(f"{event} {arguments[0]!r:.200}")


sys.addaudithook(_audit)  # for good: Python removes none


@contextmanager
def audited() -> Iterator[list[str]]:
    """Collect the events of `ONCE`, each with its first argument."""
    global _raised
    _raised = events = list[str]()
    try:
        yield events
    finally:
        _raised = None


def cache_misses() -> dict[str, int]:
    """Misses so far of each cache of a function in the package, by name."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "impls"]
    misses: dict[str, int] = {}
    for module in modules:
        for value in vars(module).values():
            if hasattr(value, "cache_info"):
                misses[f"{value.__module__}.{value.__name__}"] = value.cache_info().misses
    return misses


def random_state(device: torch.device) -> Tensor:
    """State of torch's generator of a device."""
    return torch.get_rng_state() if device.type == DeviceType.CPU else torch.cuda.get_rng_state(device)
