"""Training on sequences of different lengths, as code to start from: it learns to spell English words.

Run `python -m suite.checks.module.example CHECKPOINT`; run again, it resumes from the checkpoint. In your own project
import HyperLSTM from `hyperlstm`.
"""

import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, Dataset

from impls import HyperLSTM

LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Before each word and after it.
EDGE = len(LETTERS)


class Words(Dataset[Tensor]):
    """Every n-th word of Python's language reference, as the numbers of its letters: [letters + 2] each."""

    def __init__(self, every: int = 1) -> None:
        read = {word for text in topics.values() for word in text.lower().split() if word.strip(LETTERS) == ""}
        self.words = [torch.tensor([EDGE, *map(LETTERS.index, word), EDGE]) for word in sorted(read)[::every]]

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, n: int) -> Tensor:
        return self.words[n]


def collate(batch: Sequence[Tensor]) -> tuple[PackedSequence, PackedSequence]:
    """Input and target of some words, both packed: the target is the input one letter later."""
    return (
        pack_sequence([word[:-1] for word in batch], enforce_sorted=False),
        pack_sequence([word[1:] for word in batch], enforce_sorted=False),
    )


class Speller(nn.Module):
    """Letters in, for each the logits of the next."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(EDGE + 1, 16)
        self.recurrent = HyperLSTM(16, width, 16, 4, 2, layer_norm=True, dropout=0.1, recurrent_dropout=0.1)
        self.head = nn.Linear(width, EDGE + 1)

    def forward(self, letters: PackedSequence) -> Tensor:
        """Logits [N, EDGE + 1] of all tokens, in the order of `letters.data`."""
        out, _ = self.recurrent(letters._replace(data=self.embedding(letters.data)))
        logits: Tensor = self.head(out.data)
        return logits


class Training:
    """A model, its optimiser and the number of epochs so far."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device, self.epochs = device, 0
        self.model = Speller().to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2, weight_decay=1e-2)

    def epoch(self, data: Words) -> float:
        """Train on all words once, in an order that depends on the epoch; return the mean loss in nats per letter."""
        order = torch.Generator().manual_seed(self.epochs)
        total, tokens = 0.0, 0
        for letters, following in DataLoader(data, 128, shuffle=True, collate_fn=collate, generator=order):
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.model(letters.to(self.device))
                loss = nn.functional.cross_entropy(logits.float(), following.data.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total, tokens = total + loss.item() * len(letters.data), tokens + len(letters.data)
        self.epochs += 1
        return total / tokens

    def save(self, path: Path) -> None:
        """Write all that another process needs to continue as this one would, including dropout's random state."""
        generator = torch.cuda.get_rng_state() if self.device.type == "cuda" else torch.get_rng_state()
        parts: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        whole = path.with_suffix(".new")
        torch.save(parts | {"epochs": self.epochs, "generator": generator}, whole)
        whole.replace(path)  # so that an interruption leaves the old one

    def resume(self, path: Path) -> None:
        """Read what `save` wrote."""
        parts = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.epochs = parts["epochs"]
        set_state = torch.cuda.set_rng_state if self.device.type == "cuda" else torch.set_rng_state
        set_state(parts["generator"])


def main(path: Path) -> None:
    """Train until interrupted, and keep a checkpoint after each epoch."""
    training = Training(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if path.exists():
        training.resume(path)
    data = Words()
    for epoch in count(training.epochs):
        print(f"epoch {epoch}: {training.epoch(data):.3f} nats per letter", flush=True)
        training.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
