"""Script: `python -m suite.checks.module.first_calls DEVICE` fails if a first call in its process changes a setting."""

import sys

import torch

from impls import HyperLSTM, names, why_unavailable
from impls.registry import find
from suite.checks.equality.leftovers import altered, settings
from suite.checks.module.runs import CASE
from suite.shared.compare import model_and_draw
from suite.shared.oracle import plain


def main(device: str) -> None:
    bystander = HyperLSTM(CASE.I, CASE.H, CASE.S, CASE.Z, CASE.L, device=device)
    before = settings(bystander)
    for name in names():
        for dtype in find(name).dtypes:
            if why_unavailable(name, device, dtype) is None:
                model, sample = model_and_draw(name, CASE, dtype, torch.device(device))
                plain(model, CASE, sample)
                if changed := altered(bystander, before):
                    raise AssertionError(f"{name}: its first call in {dtype} changed {changed}")


if __name__ == "__main__":
    main(sys.argv[1])
