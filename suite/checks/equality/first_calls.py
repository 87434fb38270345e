"""`python -m suite.checks.equality.first_calls DEVICE` fails if a first call in its process changes a setting."""

import sys

import torch

from impls import names, why_unavailable
from impls.registry import ORACLE, find
from suite.cases.verification import TWO_LAYERS
from suite.checks.equality.leftovers import altered, settings
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import plain


def first_calls(device: str) -> None:
    """Call every implementation; AssertionError names the first that changes a setting."""
    bystander, _ = model_and_draw(ORACLE, TWO_LAYERS, torch.float32, torch.device(device))
    before = settings(bystander)
    for name in names():
        for dtype in find(name).dtypes:
            if why_unavailable(name, device, dtype) is not None:
                continue
            model, sample = model_and_draw(name, TWO_LAYERS, dtype, torch.device(device))
            plain(model, TWO_LAYERS, sample)
            changed = altered(bystander, before)
            if changed:
                raise AssertionError(f"{name}: its first call in {dtype} changed {changed}")


if __name__ == "__main__":
    first_calls(sys.argv[1])
