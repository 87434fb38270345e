"""The tolerance rule: run a case with everything random, compare it with the oracle, and judge each result."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls.registry import ORACLE, find, names
from suite.cases.case import Case
from suite.comparison.draws import DRAWS, Build, Draw, DrawChange, by_name, draw, implementation
from suite.comparison.runs import Outcome, Run, run_plain, without_module
from suite.comparison.tensors import Arguments, Gradient, Result, Results
from suite.shared.arithmetic import eps
from suite.shared.devices import DeviceType

#: Number of references that stay in memory.
REFERENCES = 64


#: What a tensor may err by, by dtype: a multiple of the oracle's own error in that dtype, plus some eps of the dtype.
#: The dtypes are those that are compared.
LIMITS: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (2, 32),
    torch.float32: (2, 4),
    torch.bfloat16: (2, 2),
    torch.float16: (2, 2),
}
#: In bfloat16 and float16, of an implementation whose sums and cells are in float32.
OF_FLOAT32_SUMS = (1 / 4, 1)
DTYPES = tuple(LIMITS)


def limit(name: str, dtype: torch.dtype) -> tuple[float, float]:
    """The limit of an implementation; names that are not in the registry, as of candidates, get that of the others."""
    if name in names() and find(name).float32_sums and dtype.itemsize == 2:
        return OF_FLOAT32_SUMS
    return LIMITS[dtype]


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill uninitialised memory with NaN, so that a result which depends on it shows."""
    mode = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.set_deterministic_debug_mode(mode)


def evaluate(
    build: Build,
    case: Case,
    dtype: torch.dtype,
    device: torch.device,
    *,
    rounded: torch.dtype,
    draws: int = DRAWS,
    run: Run = run_plain,
    change_draw: DrawChange | None = None,
) -> Outcome:
    """Tensors that `run` gives, stacked over the draws; its findings, and a finding of each argument that it changed.

    dtype: to compute in. rounded: dtype that the drawn numbers are rounded to, so that an oracle in a wider dtype
    sees the same numbers as the implementation. change_draw: modifies each draw.

    All draws go through one model, the arguments of each have the addresses of the draw before, and no result is copied
    before the last draw: so a run that leaves state to the next one gives wrong results.
    """
    # Every parameter is drawn below; orthogonal initial values could take a second.
    model = build(case, dtype, torch.device("meta")).to_empty(device=device)
    buffers: Draw | None = None
    results: dict[Result, list[Tensor]] = {}
    findings: dict[str, None] = {}
    for seed in range(draws):
        drawn = draw(case, seed, rounded, device)
        if change_draw is not None:
            drawn = change_draw(drawn)
        if buffers is None:
            buffers = tree_map_only(Tensor, lambda value: value.to(dtype, copy=True), drawn)
            buffers = buffers._replace(params=dict(model.named_parameters()))
        before = {name: value.to(dtype) for name, value in by_name(drawn).items()}
        with torch.no_grad():
            for name, value in by_name(buffers).items():
                value.copy_(before[name])
        _seed_masks(seed, device)
        with poisoned():
            outcome = run(model, case, buffers)
        findings.update(dict.fromkeys([*outcome.findings, *changed(before, by_name(buffers))]))
        for result, value in outcome.results.items():
            results.setdefault(result, []).append(value.detach())
    stacked = {result: torch.stack(values) for result, values in results.items()}
    return Outcome(stacked, tuple(findings))


def _seed_masks(seed: int, device: torch.device) -> None:
    """Set the seed of dropout's masks."""
    # On a CPU torch's own function keeps a trace of each call for devices that are not used.
    if device.type == DeviceType.CPU:
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def changed(before: Arguments, after: Arguments) -> list[str]:
    """A finding of each argument whose bits are no longer those of before."""
    return [f"argument changed: {name}" for name, value in after.items() if not bits(value).equal(bits(before[name]))]


def bits(value: Tensor) -> Tensor:
    """The bytes of a tensor's numbers, which are equal where NaN is, too."""
    return value.detach().contiguous().view(-1).view(torch.uint8)


@lru_cache(REFERENCES)
def reference(
    name: str,
    case: Case,
    dtype: torch.dtype,
    device: torch.device,
    rounded: torch.dtype,
    draws: int = DRAWS,
    change_draw: DrawChange | None = None,
) -> Results:
    """Results of the layer function of an implementation, called without the module, computed once."""
    run = partial(run_plain, call=without_module)
    build = implementation(name)
    outcome = evaluate(build, case, dtype, device, rounded=rounded, draws=draws, run=run, change_draw=change_draw)
    if outcome.findings:
        raise ValueError(f"{name}: expected a reference without findings, got {', '.join(outcome.findings)}")
    return outcome.results


@dataclass(frozen=True)
class Judgement:
    """Error of one result of a use against the oracle, and the allowed one; both as relative L2 errors.

    tensor: the result, such as `grad x`; "" for a finding of the run, whose error is infinite.
    use: its name; "" for the plain call.
    """

    tensor: str
    error: float
    allowed: float
    finding: str = ""
    use: str = ""

    @property
    def ratio(self) -> float:
        """The error as a multiple of the allowed one; above 1 the tensor is wrong."""
        return self.error / self.allowed

    @property
    def wrong(self) -> bool:
        """True unless the error is at most the allowed one; so it is of NaN."""
        return not self.ratio <= 1

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that has the judgement."""
        return {**asdict(self), "ratio": self.ratio}

    def __str__(self) -> str:
        use = f", {self.use}" if self.use else ""
        if self.finding:
            return f"{self.finding}{use}"
        return f"{self.tensor}{use}: relative error {self.error:.2e}, allowed {self.allowed:.2e}"


def relative_error(value: Tensor, oracle: Tensor) -> float:
    """||value - oracle|| / ||oracle||.

    0 if both are all zero; inf if value is not finite or has another shape, and if the oracle alone is all zero.
    """
    value = value.double()
    oracle = oracle.double()
    if value.shape != oracle.shape:
        return math.inf
    difference = float((value - oracle).detach().norm())
    norm = float(oracle.detach().norm())
    if not math.isfinite(difference):
        return math.inf
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / norm


def judge(
    name: str,
    results: Results,
    oracle: Results,
    in_dtype: Results,
    dtype: torch.dtype,
    findings: Sequence[str] = (),
) -> list[Judgement]:
    """Apply the tolerance rule to every tensor of the oracle; return judgements, worst first: findings, then tensors.

    A tensor is right if its relative L2 error is within the `limit` of the implementation of that name, if it is
    finite, and if it is all zero where the oracle's tensor is. In another dtype than that of `in_dtype` it is wrong,
    except a gradient, which autograd gives in the dtype of its argument. Under TF32 eps is that of TF32, since cuBLAS
    may compute some of the products of `in_dtype` in float32.

    dtype: what was computed in. oracle: results in float64. in_dtype: those of the oracle in dtype.
    """
    if results.keys() != oracle.keys():
        raise ValueError(f"results: expected the tensors {sorted(map(str, oracle))}, got {sorted(map(str, results))}")
    first = next(iter(oracle.values()))
    times, floor = limit(name, dtype)
    floor *= eps(dtype, first.device)
    judgements = [Judgement("", math.inf, floor, finding) for finding in findings]
    for result, exact in oracle.items():
        own_error = relative_error(in_dtype[result], exact)
        if math.isinf(own_error):
            raise ValueError(f"oracle in {dtype}: expected {result} to be finite, and zero where it is in float64")
        other_dtype = not isinstance(result, Gradient) and results[result].dtype != in_dtype[result].dtype
        error = math.inf if other_dtype else relative_error(results[result], exact)
        judgements.append(Judgement(str(result), error, times * own_error + floor))
    return sorted(judgements, key=lambda judgement: -judgement.ratio)


def compare(
    build: Build,
    case: Case,
    dtype: torch.dtype,
    device: torch.device,
    oracle: str = ORACLE,
    *,
    rounded: torch.dtype | None = None,
    draws: int = DRAWS,
    cast_from: torch.dtype | None = None,
    run: Run = run_plain,
    change_draw: DrawChange | None = None,
    expected: Callable[[Results], Results] = dict,
) -> list[Judgement]:
    """Compare an implementation with the oracle in float64, whose own error in dtype sets the limit; worst first.

    rounded: by default dtype; see `evaluate`, also for draws, run and change_draw.
    cast_from: dtype of the model and its arguments, if `run` casts them to dtype.
    expected: what `run` should give, from the results of a plain call.
    """
    rounded = rounded or dtype
    exact = reference(oracle, case, torch.float64, device, rounded, draws, change_draw)
    in_dtype = reference(oracle, case, dtype, device, rounded, draws, change_draw)
    given = cast_from or dtype
    model = build(case, given, torch.device("meta"))
    outcome = evaluate(
        lambda *_: model, case, given, device, rounded=rounded, draws=draws, run=run, change_draw=change_draw
    )
    return judge(str(model.impl), outcome.results, expected(exact), expected(in_dtype), dtype, outcome.findings)


def assert_within_rule(results: Results, case: Case, device: torch.device, draws: int) -> None:
    """Raise AssertionError unless float32 results, stacked over draws, pass the tolerance rule."""
    exact = reference(ORACLE, case, torch.float64, device, torch.float32, draws)
    in_dtype = reference(ORACLE, case, torch.float32, device, torch.float32, draws)
    oracle = {name: value for name, value in exact.items() if name in results}
    assert_right(judge(ORACLE, results, oracle, in_dtype, torch.float32))


def assert_right(judgements: Sequence[Judgement]) -> None:
    """Raise AssertionError if the worst of judgements, which is the first, is wrong."""
    worst = judgements[0]
    if worst.wrong:
        raise AssertionError(str(worst))


def assert_bitwise_equal(results: Mapping[Any, Tensor], expected: Mapping[Any, Tensor]) -> None:
    """Raise AssertionError, which names a tensor that differs, unless all tensors are equal to the bit."""
    both = []
    for tensors in (results, expected):
        both.append({(name, value.dtype, value.shape): bits(value) for name, value in tensors.items()})
    torch.testing.assert_close(*both, rtol=0, atol=0)
