"""The comparison: run a case with everything random, compare it with the oracle, and apply the tolerance rule."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls import HyperLSTM
from suite.shared.arithmetic import eps
from suite.shared.cases import Case
from suite.shared.oracle import Call, packed, without_module

#: Number of draws of a case; their results are stacked, so that the rule is about norms over enough numbers.
DRAWS = 8
#: Most references in memory.
KEPT = 64
#: An implementation may err by this multiple of the naive form's own error in the same dtype,
TIMES = 2.0
#: plus this many eps of the dtype.
FLOOR = {torch.float64: 64, torch.float32: 4, torch.bfloat16: 4, torch.float16: 4}

Build = Callable[[Case, torch.dtype, torch.device], HyperLSTM]
Results = dict[str, Tensor]

STATE_NAMES = ("h", "c", "h_hat", "c_hat")
#: Outputs of a model, in its order.
OUTPUTS = ("out", *STATE_NAMES)
#: Begins the name of an argument that was changed, such as "input x", among the results.
MUTATED = "input "


@cache
def implementation(name: str, cls: type[HyperLSTM] = HyperLSTM) -> Build:
    """A builder of a case's HyperLSTM, of that class and with that implementation."""

    def build(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
        options: dict[str, Any] = {name: getattr(case, name) for name in ("layer_norm", "dropout", "recurrent_dropout")}
        model = cls(case.I, case.H, case.S, case.Z, case.L, **options, impl=name, dtype=dtype, device=device)
        return model.train(case.training)

    return build


class Draw(NamedTuple):
    """Random parameters, input, start and cotangents of one case."""

    params: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...] | None
    cotangents: tuple[Tensor, ...]  # of out and of the four final states


def draw(case: Case, seed: int, dtype: torch.dtype, device: torch.device) -> Draw:
    """Draw number `seed` of a case, rounded to dtype, in memory of its own: the same numbers on every device."""
    copied: Draw = tree_map_only(Tensor, torch.clone, _draw(case, seed, dtype, device))
    return copied


@lru_cache(DRAWS)
def _draw(case: Case, seed: int, dtype: torch.dtype, device: torch.device) -> Draw:
    """What `draw` copies, kept since to draw large parameters takes longer than to use them.

    Every parameter is random, since at the paper's initial values the hypernetwork is inert and hides every fault.
    Weights are scaled by their fan-in, so that gates neither saturate nor stay at their middle. The biases of a gate
    are spread evenly in random order: a gate whose units happened to be nearly equal would have a layer norm that
    magnifies rounding at will, and one such draw would decide the comparison.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def parameter(name: str, shape: Sequence[int]) -> Tensor:
        kind = name.rsplit(".", 1)[1]
        if "norm" in kind:
            return normal(*shape) * 0.3 + float(kind.endswith("weight"))
        if kind in ("bias", "hyper_bias"):
            order = torch.rand(shape, generator=generator).argsort(dim=-1)
            return torch.linspace(-1.5, 1.5, shape[-1], dtype=torch.float64)[order] + 0.2 * normal(*shape)
        if kind == "z_bias":
            return normal(*shape)
        return normal(*shape) * 0.7 / math.sqrt(shape[-1])

    model = implementation("naive")(case, torch.float64, torch.device("meta"))
    T, B, I, H, S, L = case.T, case.B, case.I, case.H, case.S, case.L
    layers = {"none": None, "plain": (), "stacked": (L,)}[case.state]
    params = {name: parameter(name, p.shape) for name, p in model.named_parameters()}
    x = normal(B, T, I).transpose(0, 1) if case.strided else normal(T, B, I)
    state = None if layers is None else tuple(0.7 * normal(*layers, B, F) for F in (H, H, S, S))
    cotangents = normal(T, B, H), *(normal(L, B, F) for F in (H, H, S, S))

    drawn: Draw = tree_map_only(Tensor, lambda value: value.to(dtype).to(device), Draw(params, x, state, cotangents))
    return drawn


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
    call: Call = packed,
    numbers: Callable[[Draw], Draw] | None = None,
) -> Results:
    """out, final states and every gradient by name, stacked over the draws; and the arguments that were changed.

    dtype: to compute in. rounded: dtype that the drawn numbers are rounded to, so that an oracle in a wider dtype
    sees the same numbers as the implementation. numbers: changes each draw.

    State that one run leaves to the next shows: all draws go through one model, x and the states of each have the
    addresses of the draw before, and no result is copied before the last draw.
    """
    # Every parameter is drawn below; orthogonal initial values could take a second.
    model = build(case, dtype, torch.device("meta")).to_empty(device=device)
    leaves: dict[str, Tensor] = {}
    results: dict[str, list[Tensor]] = {}
    for seed in range(draws):
        drawn_numbers = draw(case, seed, rounded, device)
        params, x, state, cotangents = drawn_numbers if numbers is None else numbers(drawn_numbers)
        model.load_state_dict(params)
        model.zero_grad(set_to_none=True)
        drawn = {"x": x, **{f"state {name}": part for name, part in zip(STATE_NAMES, state or (), strict=False)}}
        leaves = {name: _leaf(value, dtype, leaves.get(name)) for name, value in drawn.items()}
        given = {f"grad {n}": value.to(dtype, copy=True) for n, value in zip(OUTPUTS, cotangents, strict=True)}
        torch.manual_seed(seed)  # of dropout's masks
        with poisoned():
            out, last = call(model, case, leaves["x"], tuple(leaves.values())[1:] or None)
            torch.autograd.backward((out, *last), tuple(given.values()))
        named = dict(zip(OUTPUTS, (out, *last), strict=True))
        for name, leaf in [*leaves.items(), *model.named_parameters()]:
            # A missing gradient counts as zero, and the rule decides whether zero is right.
            named[f"grad {name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        before = {**drawn, **params, **dict(zip(given, cotangents, strict=True))}
        for name, value in {**leaves, **dict(model.named_parameters()), **given}.items():
            if not _same_bits(value, before[name].to(dtype)):
                named[MUTATED + name] = value
        for name, value in named.items():
            results.setdefault(name, []).append(value.detach())
    return {name: torch.stack(values) for name, values in results.items()}


def _leaf(value: Tensor, dtype: torch.dtype, memory: Tensor | None) -> Tensor:
    """A leaf of the autograd graph with that value, in the memory of an earlier one if there is one."""
    leaf = value.to(dtype, copy=True) if memory is None else memory.detach().copy_(value)
    return leaf.requires_grad_()


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    return torch.equal(*(value.detach().contiguous().view(-1).view(torch.uint8) for value in (a, b)))


@lru_cache(KEPT)
def reference(
    name: str,
    case: Case,
    dtype: torch.dtype,
    device: torch.device,
    rounded: torch.dtype,
    draws: int = DRAWS,
    numbers: Callable[[Draw], Draw] | None = None,
) -> Results:
    """Results of the layer function of an implementation, called without the module, computed once."""
    build = implementation(name)
    return evaluate(build, case, dtype, device, rounded=rounded, draws=draws, call=without_module, numbers=numbers)


@dataclass(frozen=True)
class Verdict:
    """Error of one tensor against the oracle, and the allowed one; both as relative L2 errors."""

    tensor: str
    error: float
    allowed: float

    @property
    def ratio(self) -> float:
        """The error as a multiple of the allowed one; above 1 the tensor is wrong."""
        return self.error / self.allowed

    def __str__(self) -> str:
        return f"{self.tensor}: relative error {self.error:.2e}, allowed {self.allowed:.2e}"


def relative_error(value: Tensor, oracle: Tensor) -> float:
    """||value - oracle|| / ||oracle||: 0 if both are all zero, inf if value is not finite or should be zero."""
    value, oracle = value.double(), oracle.double()
    if value.shape != oracle.shape or not bool(value.isfinite().all()):
        return math.inf
    difference, norm = float((value - oracle).detach().norm()), float(oracle.detach().norm())
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / norm


def judge(results: Results, oracle: Results, naive: Results, dtype: torch.dtype) -> list[Verdict]:
    """Apply the tolerance rule to every tensor of the oracle; return the verdicts, worst first.

    A tensor is right if its relative L2 error is at most TIMES the naive form's own plus FLOOR eps of dtype, if it is
    finite, and if it is all zero exactly where the oracle's is. An argument that was changed is wrong. Under TF32 eps
    is that of TF32, since cuBLAS may compute some of the naive form's products in float32.
    """
    mutated_inputs = [name for name in results if name.startswith(MUTATED)]
    if results.keys() - mutated_inputs != oracle.keys():
        raise ValueError(f"results: expected the tensors {sorted(oracle)}, got {sorted(results)}")
    floor = FLOOR[dtype] * eps(dtype, next(iter(oracle.values())).device)
    verdicts = [Verdict(name, math.inf, floor) for name in mutated_inputs]
    for name in oracle:
        own = relative_error(naive[name], oracle[name])
        if math.isinf(own):
            raise ValueError(f"naive form: expected {name} to be finite, and zero where the oracle's is")
        verdicts.append(Verdict(name, relative_error(results[name], oracle[name]), TIMES * own + floor))
    return sorted(verdicts, key=lambda verdict: -verdict.ratio)


def compare(
    build: Build,
    case: Case,
    dtype: torch.dtype,
    device: torch.device,
    *,
    against: str = "naive",
    draws: int = DRAWS,
    rounded: torch.dtype | None = None,
) -> list[Verdict]:
    """Compare an implementation with `against` in float64 (the oracle) and in dtype (its own error); worst first.

    rounded: dtype that all numbers are rounded to beforehand, if it is not dtype.
    """
    rounded = rounded or dtype
    oracle = reference(against, case, torch.float64, device, rounded, draws)
    own = reference(against, case, dtype, device, rounded, draws)
    return judge(evaluate(build, case, dtype, device, rounded=rounded, draws=draws), oracle, own, dtype)


def assert_close(results: Results, case: Case, device: torch.device, draws: int) -> None:
    """Raise AssertionError unless float32 results, stacked over draws, pass the tolerance rule."""
    oracle = reference("naive", case, torch.float64, device, torch.float32, draws)
    naive = reference("naive", case, torch.float32, device, torch.float32, draws)
    assert_within_rule(results, {name: oracle[name] for name in results}, naive)


def assert_within_rule(results: Results, oracle: Results, naive: Results) -> None:
    """Raise AssertionError unless float32 results pass the tolerance rule, see `judge`."""
    worst = judge(results, oracle, naive, torch.float32)[0]
    if worst.ratio > 1:
        raise AssertionError(str(worst))


def assert_bitwise_equal(results: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise AssertionError unless all tensors are equal to the bit."""
    if results.keys() != expected.keys():
        raise AssertionError(f"expected the tensors {sorted(expected)}, got {sorted(results)}")
    for name, value in expected.items():
        if not _same_bits(results[name], value):
            raise AssertionError(
                f"{name}: expected the same bits, got a relative error of {relative_error(results[name], value):.2e}"
            )
