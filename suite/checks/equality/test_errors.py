"""The error of every implementation stays within the rule as sequences grow; the CSV has the worst tensor."""

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import ORACLE
from suite.conftest import Keep, skip_reason
from suite.shared.cases import Case
from suite.shared.compare import FLOOR, judge, reference, relative_error

#: Draws for each length of the sequence.
DRAWS = {1: 8, 10: 4, 100: 1, 1000: 1}
#: The longest with layer norm alone, as it takes as long as all others together.
CASES = tuple(
    Case(T=T, B=2, I=5, H=16, S=8, Z=3, layer_norm=layer_norm, state="stacked")
    for T in DRAWS
    for layer_norm in ((True,) if T == 1000 else (False, True))
)
#: Every dtype gets the same numbers, which each can hold, except float16 the smallest, so one oracle serves all.
ROUNDED = torch.bfloat16


@pytest.mark.thorough("errors up to 1000 steps")
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
def test_errors_stay_within_the_rule_as_sequences_grow(
    name: str, dtype: torch.dtype, device: torch.device, keep: Keep
) -> None:
    about = {"implementation": name, "dtype": dtype_name(dtype)}
    if reason := skip_reason(name, device, dtype):
        for T in DRAWS:
            keep("errors", **about, T=T, verdict="not run", reason=reason)
        pytest.skip(reason)
    too_large = []
    for case in CASES:
        pairs = (ORACLE, torch.float64), (ORACLE, dtype), (name, dtype)
        oracle, naive, results = (reference(n, case, d, device, ROUNDED, DRAWS[case.T]) for n, d in pairs)
        worst = judge(results, oracle, naive, dtype)[0]
        own = relative_error(naive[worst.tensor], oracle[worst.tensor])  # 0 in float64
        figures = {"error": worst.error, "naive": own, "allowed": worst.allowed, "multiple": own and worst.error / own}
        keep(
            "errors",
            **about,
            T=case.T,
            layer_norm="on" if case.layer_norm else "off",
            tensor=worst.tensor,
            verdict="pass" if worst.ratio <= 1 else "FAIL",
            **{column: float(f"{value:.3g}") for column, value in figures.items()},
        )
        too_large += [] if worst.ratio <= 1 else [f"{case.id}, {worst}"]
    assert not too_large
