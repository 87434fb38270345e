"""A comparison by value: a case, a dtype, how the model is used, and the oracle.

Small cases have `naive` as their oracle, wide ones row_scaled.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from impls import HyperLSTM, Impl
from suite.cases.case import Case
from suite.checks.equality.leftovers import watched
from suite.checks.equality.use import Use
from suite.comparison.draws import DRAWS, Build
from suite.comparison.runs import run_plain
from suite.comparison.tolerance import Judgement, Oracle, compare, naive_oracle

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


class Group(NamedTuple):
    """Uses that one comparison makes of a model, one after the other.

    name: unique; in ids and rows, and what lists of faults name.
    """

    name: str
    uses: tuple[Use, ...]

    @property
    def forward_only(self) -> bool:
        """True if none of its uses has a backward pass."""
        return not any(use.gradient for use in self.uses)

    @property
    def plain(self) -> bool:
        """True for the plain call, which ids and tables do not name."""
        return self == PLAIN


#: The plain call: one call with all gradients.
PLAIN = Group("plain call", (Use("plain call", run_plain),))


class Comparison(NamedTuple):
    """A case in a dtype, the uses of a model that are compared, and what with; default: part of a default run."""

    case: Case
    dtype: torch.dtype
    group: Group
    oracle: Oracle
    default: bool = True

    @property
    def id(self) -> str:
        """Name in test ids and rows; the oracle, which it does not name, has a column of its own."""
        return self.case.id if self.group.plain else f"{self.case.id}-{self.group.name}"

    def worst(self, build: Build, device: torch.device) -> Judgement:
        """The worst judgement on any tensor."""
        worst_of_uses = [judgements[0] for judgements in self.judgements(build, device)]
        return max(worst_of_uses, key=lambda judgement: judgement.ratio)

    def judgements(self, build: Build, device: torch.device) -> Iterator[list[Judgement]]:
        """Judgements on all tensors of each use, worst first."""
        # One model of all uses, which shows what a use leaves to the next; one that casts builds its own.
        model = build(self.case, self.dtype, torch.device("meta"))
        for use in self.group.uses:
            yield self._compared(use, build, model, device)

    def _compared(self, use: Use, build: Build, model: HyperLSTM, device: torch.device) -> list[Judgement]:
        cast_from = use.cast_from(self.dtype)
        try:
            judgements = compare(
                build if cast_from else lambda *_: model,
                self.case,
                self.dtype,
                device,
                self.oracle,
                cast_from=cast_from,
                run=watched(use.run),
                change_draw=use.change_draw,
                expected=use.expected,
            )
        except Exception as error:
            error.add_note(f"in the use {use.name!r} of {self.id}")
            raise
        name = None if self.group.plain else use.name
        return [replace(judgement, use=name) for judgement in judgements]


#: The oracle of wide cases, since `naive` would build its weight tensors at every step.
WIDE_ORACLE = "row_scaled"
#: The dtype that the numbers of a wide case are rounded to, by dtype: of two that share it one oracle serves both.
ROUNDED = {F64: F32, F32: F32, BF16: BF16, F16: BF16}


def dtypes_at_size(impl: Impl) -> tuple[torch.dtype, ...]:
    """Dtypes in which an implementation is compared at the sizes that people run.

    One that builds the weights of each row is compared in float64 alone, since its gradients sum more products.
    """
    return (F64,) if impl.builds_weights else impl.dtypes


def against_naive(case: Case, dtype: torch.dtype, group: Group = PLAIN, *, default: bool = True) -> Comparison:
    """A comparison of a small case."""
    # In float64 the rule is its floor, which any draw must keep; the second shows what the first left behind.
    draws = 2 if dtype == F64 else DRAWS
    return Comparison(case, dtype, group, naive_oracle(dtype, draws), default)


def against_wide(case: Case, dtype: torch.dtype, group: Group = PLAIN, *, default: bool = True) -> Comparison:
    """A comparison of a wide case."""
    draws = _wide_draws(case, dtype) if group.plain else 1
    return Comparison(case, dtype, group, Oracle(WIDE_ORACLE, ROUNDED[dtype], draws), default)


def _wide_draws(case: Case, dtype: torch.dtype) -> int:
    """Draws of a plain call: one, but of few units more.

    The rule is about norms over many numbers: the gradient of a bias of few units may nearly cancel, and its relative
    error is then chance.
    """
    units = min(case.H, case.S)
    if units < 32:
        return DRAWS if dtype == F32 else 3
    return 3 if units < 64 and dtype == F32 else 1
