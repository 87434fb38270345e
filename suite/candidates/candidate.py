"""A candidate: something that the benchmark times."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from suite.cases.case import MODEL_OPTIONS, Case
from suite.comparison.draws import Build, draw
from suite.shared.devices import DeviceType


@dataclass(frozen=True)
class Candidate:
    """Something to time: how to build it for a case with random weights, and how it compares with ours."""

    name: str
    build: Callable[[Case, torch.dtype, torch.device], nn.Module]
    layer_norms: tuple[bool, ...]
    why_unavailable: Callable[[torch.device, torch.dtype], str | None]
    #: What people call it, if not by its name.
    called: str = ""

    # What it computes.
    #: Fields of a case that it takes at their defaults alone.
    lacks: frozenset[str] = frozenset()
    #: By letter, what a size has to be a multiple of.
    multiples: Mapping[str, int] = field(default_factory=dict, hash=False)
    #: Whether it pads packed sequences, and is timed on these alone.
    pads: bool = False

    # How its results are compared.
    #: Whether it computes what a HyperLSTM does, so that its results are compared with those of a verified one.
    compared: bool = True
    #: Renames and reshapes tensors like its parameters, by name, to those of a HyperLSTM.
    to_ours: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict

    # What it needs.
    #: Other projects' modules that its first call imports, which takes long.
    modules: tuple[str, ...] = ()
    #: Kinds of device on which it may run.
    devices: tuple[str, ...] = tuple(DeviceType)

    # What it costs.
    #: Whether torch computes it. Otherwise its memory is not measured.
    of_torch: bool = True
    #: Of a forward pass over the whole input of a case.
    multiply_adds: Callable[[Case], int] = Case.multiply_adds
    #: Numbers per token and layer that a backward pass needs beside x and h: c, and h and c of the hyper LSTM.
    saved: Callable[[Case], int] = lambda case: case.H + 2 * case.S

    def takes(self, case: Case) -> bool:
        """True if it can compute a case, and is timed on such ones at all."""
        if self.pads and not case.lengths:
            return False
        if case.fitting(self.multiples) != case:
            return False
        return not any(case.uses(name) for name in self.lacks)


def with_random_weights(build: Build, case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A model with random weights."""
    model = build(case, dtype, torch.device("meta"))
    model.load_state_dict(draw(case, 0, dtype, device).params, assign=True)
    return model


#: What an alternative lacks if it takes only batches of equal length, and no option of the model but layer norm.
BATCHES = frozenset({"lengths", *MODEL_OPTIONS} - {"layer_norm"})


def alternative(name: str, as_hyperlstm: Build, **options: Any) -> Candidate:
    """An alternative to ours, which lacks what `BATCHES` says.

    as_hyperlstm: builds it with the interface of `HyperLSTM`. options: further fields of the candidate.
    """
    usual = {
        "build": partial(with_random_weights, as_hyperlstm),
        "layer_norms": (False, True),
        "lacks": BATCHES,
    }
    return Candidate(name, **{**usual, **options})
