"""The example trains, and resumes from its checkpoint to the bit."""

from pathlib import Path

import torch

from suite.checks.module.example import Training, words


def test_it_learns_and_resumes_to_the_bit(tmp_path: Path, device: torch.device) -> None:
    data = words(every=20)
    whole, path = Training(device), tmp_path / "checkpoint"
    first = whole.epoch(data)
    whole.save(path)
    second = whole.epoch(data)
    assert second < first
    resumed = Training(device)
    resumed.resume(path)
    assert resumed.epoch(data) == second
    for (name, p), q in zip(resumed.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(p, q), name
