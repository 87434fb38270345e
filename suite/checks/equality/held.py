"""Memory that calls hold."""

import gc
from dataclasses import replace
from functools import partial

import torch

from impls.gradient.chunks import limited
from impls.registry import find
from suite.cases.case import Case
from suite.comparison.draws import draw, model_and_draw
from suite.comparison.runs import plain
from suite.shared.usage import saved_bytes


def held(name: str, case: Case, device: torch.device) -> int:
    """Bytes that stay allocated after training and inference at B and then B + 1, beyond those after B + 1 alone."""
    larger = replace(case, B=case.B + 1)
    model, _ = model_and_draw(name, case, torch.float32, device)
    samples = {size: draw(size, 0, torch.float32, device) for size in (case, larger)}

    def train(*sizes: Case) -> None:
        for size in sizes:
            sample = samples[size]
            for residuals in (True, True, False):
                with limited(device.type, residuals=residuals):
                    plain(model, size, sample)
                with torch.no_grad():
                    model(sample.x, sample.state)
        model.zero_grad(set_to_none=True)
        if find(name).interpreted(device):  # by frames that refer to one another, with the last launch's arguments
            gc.collect()

    train(larger)
    gc.collect()
    return saved_bytes(partial(train, case, larger), device)
