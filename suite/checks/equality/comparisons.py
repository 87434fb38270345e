"""A comparison by value: a case, a dtype, how the model is used, and the oracle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from impls import Impl
from impls.registry import ORACLE
from suite.cases.case import Case
from suite.checks.equality.leftovers import watched
from suite.comparison.draws import DRAWS, Build, DrawChange
from suite.comparison.runs import Run, run_plain
from suite.comparison.tensors import Results
from suite.comparison.tolerance import Judgement, compare

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


class Use(NamedTuple):
    """A use of a model.

    name: for people. expected: what the results of a run should be, from those of the plain call.
    change_draw: modifies the draw, for the model and the oracle.
    autocast: a comparison in bfloat16 has a model in float32.
    gradient: whether it has a backward pass.
    residuals: whether hand-written gradients save what they would else recompute.
    """

    name: str
    run: Run
    expected: Callable[[Results], Results] = dict
    change_draw: DrawChange | None = None
    autocast: bool = False
    gradient: bool = True
    residuals: bool = True


Uses = tuple[Use, ...]
#: One call with all gradients.
PLAIN: Uses = (Use("", run_plain),)


class Comparison(NamedTuple):
    """Uses of one model of a case in a dtype, one after the other, and what they are compared with.

    name: of the uses, unique, in ids and rows; "" for the plain call.
    oracle: an implementation. rounded: dtype that all numbers are rounded to first. draws: of the case.
    default: part of a default run. too_large: a sentence if it does not fit into memory.
    """

    case: Case
    dtype: torch.dtype
    name: str
    uses: Uses
    oracle: str
    rounded: torch.dtype
    draws: int
    default: bool = True
    too_large: str = ""

    @property
    def id(self) -> str:
        """Name in test ids and rows; the oracle, which it does not name, has a column of its own."""
        return f"{self.case.id}-{self.name}" if self.name else self.case.id

    def worst(self, build: Build, device: torch.device) -> Judgement:
        """The worst judgement on any tensor."""
        worst_of_uses = [judgements[0] for judgements in self.judgements(build, device)]
        return max(worst_of_uses, key=lambda judgement: judgement.ratio)

    def judgements(self, build: Build, device: torch.device) -> Iterator[list[Judgement]]:
        """Judgements on all tensors of each use, worst first."""
        # One model of all uses, which shows what a use leaves to the next; one that casts builds its own.
        model = build(self.case, self.dtype, torch.device("meta"))
        for use in self.uses:
            cast_from = F32 if use.autocast and self.dtype == BF16 else None
            try:
                judgements = compare(
                    build if cast_from else lambda *_: model,
                    self.case,
                    self.dtype,
                    device,
                    self.oracle,
                    rounded=self.rounded,
                    draws=self.draws,
                    cast_from=cast_from,
                    run=watched(use.run),
                    change_draw=use.change_draw,
                    expected=use.expected,
                )
            except Exception as error:
                error.add_note(f"in the use {use.name or 'plain call'!r} of {self.id}")
                raise
            yield [replace(judgement, use=use.name) for judgement in judgements]


#: The oracle of wide cases, since `naive` would build its weight tensors at every step.
WIDE_ORACLE = "row_scaled"
#: The dtype that the numbers of a wide case are rounded to, by dtype: of two that share it one oracle serves both.
ROUNDED = {F64: F32, F32: F32, BF16: BF16, F16: BF16}


def dtypes_at_size(impl: Impl) -> tuple[torch.dtype, ...]:
    """Dtypes in which an implementation is compared at the sizes that people run.

    One that builds the weights of each row is compared in float64 alone, since its gradients sum more products.
    """
    return (F64,) if impl.builds_weights else impl.dtypes


def against_naive(
    case: Case, dtype: torch.dtype, name: str = "", uses: Uses = PLAIN, *, default: bool = True
) -> Comparison:
    """A comparison of a small case."""
    # In float64 the rule is its floor, which any draw must keep; the second shows what the first left behind.
    draws = 2 if dtype == F64 else DRAWS
    return Comparison(case, dtype, name, uses, ORACLE, dtype, draws, default)


def against_wide(
    case: Case, dtype: torch.dtype, name: str = "", uses: Uses = PLAIN, *, default: bool = True
) -> Comparison:
    """A comparison of a wide case."""
    draws = 1 if name else _wide_draws(case, dtype)
    return Comparison(case, dtype, name, uses, WIDE_ORACLE, ROUNDED[dtype], draws, default)


def _wide_draws(case: Case, dtype: torch.dtype) -> int:
    """Draws of a plain call: one, but of few units more.

    The rule is about norms over many numbers: the gradient of a bias of few units may nearly cancel, and its relative
    error is then chance.
    """
    units = min(case.H, case.S)
    if units < 32:
        return DRAWS if dtype == F32 else 3
    return 3 if units < 64 and dtype == F32 else 1
