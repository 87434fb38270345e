"""Inputs of what is measured, and the check that what a timed call gave is right."""

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from impls.registry import ORACLE
from suite.candidates.candidate import Candidate
from suite.cases.case import Case
from suite.cases.workloads import Pass
from suite.comparison.draws import implementation
from suite.comparison.tensors import OUTPUTS, Gradient, Results
from suite.comparison.tolerance import Judgement, judge
from suite.measure.step import CHANCE, Input, Step, Tensors
from suite.measure.timing import Call, generator_of, warm_up
from suite.shared import usage
from suite.shared.devices import DeviceType

#: A timed call may err by this many times what the tolerance rule allows. A verification takes the rounding error of
#: the naive form from several draws; that of one call may be small by chance, most where layer norm is over few units.
OF_ONE_DRAW = 3.0
#: Verified implementations that results are compared with: for speed the first one, unless it is the candidate.
REFERENCES = ("deferred", "batched")
#: The form whose rounding error says how far a result may be from the one in float64. Its operators round as those of
#: the naive form, which would take too long at the sizes of a workload. The naive form itself is allowed its own.
ROUNDS_AS_NAIVE = "batched"


def example(case: Case, dtype: torch.dtype, device: torch.device, *, of_lstm: bool = False) -> Input:
    """Input of numbers that no call has seen; x is packed if the case has lengths.

    of_lstm: for torch.nn.LSTM, whose state is h and c of every layer.
    """
    generator = torch.Generator(device).manual_seed(CHANCE.getrandbits(63))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    T, B, I, H, S, L = case.T, case.B, case.I, case.H, case.S, case.L
    batch = normal(B, T, I).transpose(0, 1) if case.strided else normal(T, B, I)
    x: Tensor | PackedSequence = batch
    if case.lengths:
        x = pack_padded_sequence(batch, list(case.lengths), enforce_sorted=case.sorted_by_length)
    if case.state == "none":
        return x, None
    layers = () if case.state == "shared" and not of_lstm else (L,)
    units = (H, H) if of_lstm else (H, H, S, S)
    return x, tuple(normal(*layers, B, F) for F in units)


def wrong(candidate: Candidate, case: Case, timed: Pass, call: Call) -> str:
    """What is wrong with the results of a timed call; "" if they are right."""
    worst = judgements(candidate, case, timed, call)[0]
    if worst.ratio <= OF_ONE_DRAW:
        return ""
    allowed = OF_ONE_DRAW * worst.allowed
    return f"{worst.tensor} of a timed call is off by {worst.error:.1e}, allowed {allowed:.1e}"


def judgements(candidate: Candidate, case: Case, timed: Pass, call: Call) -> list[Judgement]:
    """Compare a timed call with a verified implementation by the tolerance rule; worst first.

    The oracle is that implementation in float64, with the same input and parameters.
    """
    rounding = ORACLE if candidate.name == ORACLE else ROUNDS_AS_NAIVE
    oracle = next(other for other in REFERENCES if other != candidate.name)
    dtype = call.x.data.dtype
    parameters = candidate.to_ours(call.parameters)
    exact = expected(oracle, case, torch.float64, timed, call, parameters)
    rounded = expected(rounding, case, dtype, timed, call, parameters)
    results = by_name(call.results, call.parameters, candidate.to_ours)
    return judge(candidate.name, results, exact, rounded, dtype)


def expected(
    impl: str, case: Case, dtype: torch.dtype, timed: Pass, call: Call, parameters: Mapping[str, Tensor]
) -> Results:
    """Results of an implementation in a dtype, with the input, state and dropout masks of a call."""
    model = implementation(impl)(case, dtype, torch.device("meta"))
    copies = {name: value.to(dtype, copy=True) for name, value in parameters.items()}
    model.load_state_dict(copies, assign=True)
    step = Step(model, timed)
    state = call.state and tuple(part.to(dtype) for part in call.state)
    generator_of(call.x.data.device).set_state(call.random)
    return by_name(step(call.x.to(dtype), state), dict(model.named_parameters()))


def by_name(
    results: Tensors,
    parameters: Iterable[str],
    to_ours: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> Results:
    """Results of a call by their names, gradients by those of parameters, as `to_ours` renames and reshapes them."""
    outputs: Results = dict(zip(OUTPUTS, results, strict=False))
    gradients = dict(zip(parameters, results[len(OUTPUTS) :], strict=False))
    if gradients:
        outputs |= {Gradient(name): value.detach() for name, value in to_ours(gradients).items()}
    return outputs


def peak(step: Step, arguments: Input) -> int:
    """Peak memory of a pass, on a GPU of one that is not the first, in bytes, above parameters and input."""
    device = arguments[0].data.device
    if device.type == DeviceType.CUDA:
        warm_up(step, repeat(arguments), device)
    for q in step.model.parameters():
        q.grad = None
    torch.cuda.empty_cache()  # does nothing if CUDA was not used
    return usage.peak_bytes(lambda: step(*arguments), device)
