"""What the benchmark times: every implementation, and beside them what people use today."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from impls import names, registry, why_unavailable
from impls.convert import from_labml, to_labml
from suite.shared.cases import BASELINE, PEER, Case, least_numbers
from suite.shared.compare import STATE_NAMES, Results, Verdict, compare, draw, implementation, judge, reference

#: Implementations are held against this one before they are timed: at the sizes of a workload the oracle of
#: verification is out of reach, but verification ties this one to it.
AGAINST = "row_scaled"
#: The tensors of a workload are large enough for one draw to say what eight of a small case say.
DRAWS = 1


@dataclass(frozen=True)
class Subject:
    """Something to time: how to make it for a case with weights of a draw, and how it was found right beforehand."""

    name: str
    build: Callable[[Case, torch.dtype, torch.device], nn.Module]
    check: Callable[[Case, torch.dtype, torch.device], list[Verdict]]
    layer_norms: tuple[bool, ...]
    why_unavailable: Callable[[torch.device, torch.dtype], str | None]
    multiply_adds: Callable[[Case], int] = Case.multiply_adds
    least_numbers: Callable[[Case, bool], int] = Case.least_numbers


def _implementation(name: str) -> Subject:
    def build(case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
        model = implementation(name)(case, dtype, torch.device("meta")).to_empty(device=device)
        model.load_state_dict(draw(case, 0, dtype, device).params)
        return model

    def check(case: Case, dtype: torch.dtype, device: torch.device) -> list[Verdict]:
        # The full tensor's gradient sums H times as many products, so at these sizes its rounding is a worse one than
        # the yardstick's; that it computes the same function shows in float64.
        dtype = torch.float64 if name == names()[0] else dtype
        return compare(implementation(name), case, dtype, device, against=AGAINST, draws=DRAWS)

    def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
        if registry.find(name).interpreted(device):
            return f"{name} would run in Triton's interpreter, whose speed says nothing."
        return why_unavailable(name, device, dtype)

    return Subject(name, build, check, (False, True), why_not)


def _lstm(case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return nn.LSTM(case.I, case.H, case.L, dtype=dtype, device=device)


def _labml(case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Return labml's module with the weights of a draw."""
    from labml_nn.hypernetworks.hyper_lstm import HyperLSTM

    model: nn.Module = HyperLSTM(case.I, case.H, case.S, case.Z, case.L).to(dtype).to(device)
    model.load_state_dict(to_labml(draw(case, 0, dtype, device).params))
    return model


def labml_results(case: Case, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """Return what labml's module makes of draw 0 of a case, under our names: out, states and every gradient."""
    _, x, state, cotangents = draw(case, 0, rounded, device)
    model = _labml(case, dtype, device)
    leaves = [value.to(dtype).requires_grad_() for value in (x, *(state or ()))]
    out, last = model(leaves[0], tuple(leaves[1:]) or None)
    torch.autograd.backward((out, *last), tuple(value.to(dtype) for value in cotangents))
    results = {"out": out, **dict(zip(STATE_NAMES, last, strict=True))}
    names = ("x", *(f"state {name}" for name in STATE_NAMES))
    gradients = {f"grad {name}": leaf.grad for name, leaf in zip(names, leaves, strict=False)}
    # The converter only reorders numbers, so it maps gradients as it maps weights.
    weights = from_labml({name: _gradient(p) for name, p in model.named_parameters()})
    gradients |= {f"grad {name}": value for name, value in weights.items()}
    return {name: value.detach().unsqueeze(0) for name, value in (results | gradients).items() if value is not None}


def _gradient(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


def _check_labml(case: Case, dtype: torch.dtype, device: torch.device) -> list[Verdict]:
    oracle = reference(AGAINST, case, torch.float64, device, dtype, 1)
    yardstick = reference(AGAINST, case, dtype, device, dtype, 1)
    return judge(labml_results(case, dtype, device, dtype), oracle, yardstick, dtype)


def _why_no_labml(device: torch.device, dtype: torch.dtype) -> str | None:
    try:
        import labml_nn.hypernetworks.hyper_lstm  # noqa: F401
    except ImportError as error:
        return f"labml-nn is not installed ({error})."
    return None


def _lstm_multiply_adds(case: Case) -> int:
    return case.T * case.B * sum(4 * case.H * (case.H + I) for I in case.inputs)


def _lstm_least_numbers(case: Case, train: bool) -> int:
    parameters = sum(4 * case.H * (case.H + I + 2) for I in case.inputs)
    return least_numbers(case, parameters, case.H, train)


#: What every other subject's rounds alternate with. Its own row is the A/A run: the baseline against its twin.
LSTM = Subject(BASELINE, _lstm, lambda *_: [], (False,), lambda *_: None, _lstm_multiply_adds, _lstm_least_numbers)
LABML = Subject(PEER, _labml, _check_labml, (True,), _why_no_labml)


def subjects() -> list[Subject]:
    """Return all in the order of the tables: the ladder, then the peers."""
    return [*map(_implementation, names()), LSTM, LABML]


def find(name: str) -> Subject:
    """Return the subject of that name; ValueError lists the names that exist."""
    for subject in subjects():
        if subject.name == name:
            return subject
    raise ValueError(f"implementation: expected one of {', '.join(s.name for s in subjects())}; got {name!r}")
