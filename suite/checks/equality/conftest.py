"""What tests of equality share: their parameters, a fixture that compares and records the verdict, and plain calls."""

from collections.abc import Callable, Iterable

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.equality.comparisons import DEFINED, Comparison
from suite.checks.equality.sizes import Sized, at_sizes, memory_of
from suite.conftest import Record, skip_unless_checked
from suite.shared.arithmetic import dtype_of
from suite.shared.cases import Case
from suite.shared.compare import Results, draw, implementation
from suite.shared.oracle import Draw, plain

#: (name of an implementation, comparison, why it is not made, if it is not)
Check = Callable[..., None]


def every(pairs: Iterable[tuple[str, Comparison]], left_out: str) -> pytest.MarkDecorator:
    """Parametrisation by implementation and comparison; left_out: what only a thorough run compares."""
    thorough = pytest.mark.thorough(left_out)
    values = [
        pytest.param(name, one, marks=[thorough] * (not one.default), id=f"{name}-{one.id}-{dtype_name(one.dtype)}")
        for name, one in pairs
    ]
    return pytest.mark.parametrize(("name", "comparison"), values)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `sized` what is compared at the sizes of `--size`."""
    if "sized" not in metafunc.fixturenames:
        return
    config, every = metafunc.config, list[Sized]()
    if sizes := config.getoption("--size"):
        dtypes = [*map(dtype_of, config.getoption("--dtype"))]
        every = at_sizes(sizes, dtypes, memory_of(config.getoption("--device")))
    ids = [f"{one.name}-{one.comparison.id}-{dtype_name(one.comparison.dtype)}" for one in every]
    metafunc.parametrize("sized", every, ids=ids)


@pytest.fixture
def check(device: torch.device, record: Record) -> Check:
    """Function that compares an implementation, by name, and keeps a row of the verification table."""

    def compare_and_record(name: str, comparison: Comparison, refusal: str = "") -> None:
        about, use = (name, comparison.dtype, comparison.id), DEFINED[comparison.use]
        if reason := why_unavailable(name, device, comparison.dtype, comparison.case.options) or refusal:
            record(*about, "skipped", reason=reason, use=use)
            pytest.skip(reason)
        try:
            worst = comparison.worst(implementation(name), device)
        except Exception as error:
            record(*about, "FAIL", reason=f"{type(error).__name__}: {error}", use=use)
            raise
        record(*about, "pass" if worst.ratio <= 1 else "FAIL", worst, use=use)
        assert worst.ratio <= 1, str(worst)

    return compare_and_record


def numbers(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> Draw:
    """Random numbers of a case; skips an implementation that does not run here."""
    skip_unless_checked(name, device, dtype)
    return draw(case, 1, dtype, device)


def everything(name: str, case: Case, sample: Draw) -> Results:
    """Output, final states and every gradient of one call."""
    model = implementation(name)(case, sample.x.dtype, sample.x.device)
    model.load_state_dict(sample.params)
    return plain(model, case, sample)
