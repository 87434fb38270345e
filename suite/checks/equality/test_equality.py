"""Every implementation equals the oracle, in every dtype that it supports; each comparison is a row of the results."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from math import inf, nan

import pytest
import torch

from impls.definition import dtype_name
from impls.registry import find
from suite.cases.case import Case
from suite.checks.equality.catalogue import NARROW, at_sizes, grouped, of_every_implementation, paired, small, wide
from suite.checks.equality.comparisons import F64, Comparison, against_naive
from suite.checks.recording import Keep, verify_row
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.memory import bytes_needed, most_bytes
from suite.comparison.runs import plain
from suite.comparison.tolerance import Judgement
from suite.results.outcomes import Verdict
from suite.shared.arithmetic import Arithmetic
from suite.shared.marks import impl_param, impl_params
from suite.shared.text import in_one_line
from suite.shared.usage import peak_bytes

#: Compares an implementation with the oracle, and keeps a row of the results.
Check = Callable[[str, Comparison], None]


@pytest.fixture
def check(device: torch.device, keep: Keep) -> Check:
    """A comparison, which is skipped where the implementation does not run or needs too much memory."""

    def compare_and_keep(name: str, comparison: Comparison) -> None:
        case = comparison.case
        row = partial(
            verify_row,
            name,
            comparison.dtype,
            comparison.id,
            oracle=comparison.oracle,
            interpreted=find(name).interpreted(device),
            forward_only=not any(use.gradient for use in comparison.uses),
            case=case,
        )
        reason = find(name).why_unavailable(device, comparison.dtype, case.options, case.sizes) or comparison.too_large
        if reason:
            keep("verify", row(Verdict.SKIPPED, reason=reason))
            pytest.skip(reason)
        try:
            worst = comparison.worst(implementation(name), device)
        except Exception as error:
            message = " ".join([in_one_line(error), *getattr(error, "__notes__", [])])
            keep("verify", row(Verdict.FAIL, reason=f"{type(error).__name__}: {message}"))
            raise
        keep("verify", row(worst))
        assert not worst.wrong, str(worst)

    return compare_and_keep


def params(compared: Iterable[tuple[str, Comparison]], left_out: str = "") -> list[object]:
    """Comparisons as parameters of a test; left_out: what a default run leaves out, for people.

    Uses that save less have memory of their own, so their comparisons are marked for the address sanitizer.
    """
    values = []
    for name, comparison in compared:
        marks = [] if comparison.default else [pytest.mark.thorough(left_out)]
        if not all(use.gradient and use.residuals for use in comparison.uses):
            marks.append(pytest.mark.address_sanitizer)
        name_in_tests = f"{name}-{comparison.id}-{dtype_name(comparison.dtype)}"
        values.append(impl_param(name, comparison, id=name_in_tests, marks=marks))
    return values


SMALL = params(of_every_implementation(small), "other cases of each implementation and dtype")
WIDE = params(of_every_implementation(wide), "large workloads, wide cases in float16, and more random sizes")
USES = params(
    of_every_implementation(grouped, paired), "uses of row_scaled on further cases, and options of naive in pairs"
)


@pytest.mark.address_sanitizer
@pytest.mark.parametrize(("name", "comparison"), SMALL)
def test_small_sizes(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)


@pytest.mark.parametrize(("name", "comparison"), WIDE)
def test_sizes_that_people_run(name: str, comparison: Comparison, check: Check) -> None:
    """The oracle is row_scaled in float64, which is itself compared with the equation there."""
    check(name, comparison)


@pytest.mark.parametrize(("name", "comparison"), USES)
def test_uses(name: str, comparison: Comparison, check: Check) -> None:
    """Any two values of two options in one call, frozen parameters, gradients and calls in any form."""
    check(name, comparison)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of `sized` what is compared at the sizes of `--size`."""
    if "sized" in metafunc.fixturenames:
        option = metafunc.config.option
        dtypes = [Arithmetic(name).dtype for name in option.dtype]
        metafunc.parametrize(("name", "sized"), params(at_sizes(option.size, dtypes, most_bytes(option.device))))


@pytest.mark.at_size
def test_sizes_of_the_command_line(name: str, sized: Comparison, check: Check) -> None:
    check(name, sized)


@pytest.mark.parametrize("name", impl_params(["naive", "row_scaled", "batched"]))
def test_an_estimate_is_above_what_a_training_step_holds(name: str) -> None:
    """At a size where that is far more than the parameters."""
    cpu, case = torch.device("cpu"), Case(T=20, B=16, I=50, H=64, S=32, Z=4, layer_norm=True)
    model, sample = model_and_draw(name, case, F64, cpu)
    held = peak_bytes(partial(plain, model, case, sample), cpu)
    assert held < bytes_needed(name, case, F64) < 3 * held


@pytest.mark.parametrize(("error", "wrong"), [(1.0, False), (1.0 + 1e-9, True), (inf, True), (nan, True)])
def test_a_row_is_red_where_its_test_fails(
    error: float, wrong: bool, check: Check, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "worst", lambda *_: Judgement("out", error, 1.0))
    with pytest.raises(AssertionError, match=r"^out: relative error") if wrong else nullcontext():
        check("naive", against_naive(NARROW, F64))
    ((_, (_, table, row)),) = request.node.user_properties
    request.node.user_properties.clear()  # of no verification
    assert (table, row["verdict"]) == ("verify", Verdict.FAIL if wrong else Verdict.PASS)
