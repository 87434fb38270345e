"""The example trains."""

import torch

from suite.checks.module.example import Training, words


def test_it_learns(device: torch.device) -> None:
    training, data = Training(device), words(every=20)
    first = training.epoch(data)
    assert training.epoch(data) < first
