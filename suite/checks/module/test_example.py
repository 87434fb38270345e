"""The example trains, and resumes from its checkpoint to the bit."""

from pathlib import Path

import torch

from suite.checks.module.example import Training, collate, words


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


def test_batches_are_packed_without_padding() -> None:
    batch = sorted(words(every=500), key=len)
    letters, following = collate(batch)
    assert len(letters.data) == len(following.data) == sum(len(word) - 1 for word in batch)
    assert torch.equal(letters.batch_sizes, following.batch_sizes)
