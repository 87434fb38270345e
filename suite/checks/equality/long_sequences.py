"""Prints how far results in bfloat16 and float32 are from float64 over 1,000 steps, beside torch.nn.LSTM.

    python -m suite.checks.equality.long_sequences

Relative L2 errors of the output at the first and the last 50 steps, and of the gradient of weight_h. Parameters and
input are rounded to bfloat16 for every dtype. torch.nn.LSTM has the weights and biases of the main LSTM.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from impls.definition import dtype_name
from suite.cases.case import Case
from suite.comparison.draws import Draw, draw, implementation
from suite.comparison.tolerance import relative_error

CASE = Case(T=1000, B=4, I=64, H=256, S=64, Z=4)
#: What is differentiated by autograd.
REFERENCE = "batched"
COMPARED = ("batched_cpu", "deferred")
CPU = torch.device("cpu")
HEAD = "| | out, first 50 steps | out, last 50 steps | gradient of weight_h |\n| --- | ---: | ---: | ---: |"


def results(model: nn.Module, weight_h: str, sample: Draw, dtype: torch.dtype) -> list[Tensor]:
    """The output at both ends, and the gradient of the parameter of that name."""
    out, _ = model(sample.x.to(dtype))
    (gradient,) = torch.autograd.grad(out, model.get_parameter(weight_h), sample.cotangents[0].to(dtype))
    return [out[:50].detach(), out[-50:].detach(), gradient]


def of_hyper(name: str, case: Case, sample: Draw, dtype: torch.dtype) -> list[Tensor]:
    """Results of an implementation."""
    model = implementation(name)(case, dtype, CPU)
    model.load_state_dict(sample.params)
    return results(model, "layers.0.weight_h", sample, dtype)


def of_lstm(sample: Draw, dtype: torch.dtype) -> list[Tensor]:
    """Results of torch.nn.LSTM."""
    model = nn.LSTM(CASE.I, CASE.H, dtype=dtype)
    weights = {"weight_ih_l0": "weight_x", "weight_hh_l0": "weight_h", "bias_ih_l0": "bias"}
    state = {name: sample.params[f"layers.0.{ours}"].flatten(0, 1) for name, ours in weights.items()}
    model.load_state_dict(state | {"bias_hh_l0": torch.zeros_like(state["bias_ih_l0"])})
    return results(model, "weight_hh_l0", sample, dtype)


def print_errors(label: str, compute: Callable[[torch.dtype], list[Tensor]], exact: list[Tensor]) -> None:
    """Print a line for each dtype; compute: results in a dtype."""
    for dtype in (torch.bfloat16, torch.float32):
        errors = map(relative_error, compute(dtype), exact)
        print(f"| {label}, {dtype_name(dtype)} |", *(f"{error:.1e} |" for error in errors), flush=True)


def main() -> None:
    print(HEAD)
    for layer_norm in (False, True):
        case = replace(CASE, layer_norm=layer_norm)
        sample = draw(case, 0, torch.bfloat16, CPU)
        exact = of_hyper(REFERENCE, case, sample, torch.float64)
        for name in COMPARED:
            label = f"`{name}`, layer norm" if layer_norm else f"`{name}`"
            print_errors(label, partial(of_hyper, name, case, sample), exact)
    sample = draw(CASE, 0, torch.bfloat16, CPU)
    print_errors("`torch.nn.LSTM`", partial(of_lstm, sample), of_lstm(sample, torch.float64))


if __name__ == "__main__":
    main()
