"""Training on sequences of different lengths, as code to start from: it learns to spell English words.

In your own project import HyperLSTM from `hyperlstm`.
"""

from collections.abc import Sequence
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader

from impls import HyperLSTM

LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Before and after each word.
EDGE = len(LETTERS)


def words(every: int = 1) -> list[Tensor]:
    """Every n-th word of Python's language reference, as the numbers of its letters: [letters + 2] each."""
    read = {word for text in topics.values() for word in text.lower().split() if word.strip(LETTERS) == ""}
    return [torch.tensor([EDGE, *map(LETTERS.index, word), EDGE]) for word in sorted(read)[::every]]


def collate(batch: Sequence[Tensor]) -> tuple[PackedSequence, PackedSequence]:
    """Input and target of some words, both packed: the target is the input one letter later."""
    pieces = [word[:-1] for word in batch], [word[1:] for word in batch]
    letters, following = (pack_sequence(piece, enforce_sorted=False) for piece in pieces)
    return letters, following


class Speller(nn.Module):
    """Letters in, logits of the next letter out."""

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

    def epoch(self, data: list[Tensor]) -> float:
        """Train on all words once, in an order that depends on the epoch; return the mean loss of the batches."""
        order = torch.Generator().manual_seed(self.epochs)
        losses = []
        for letters, following in DataLoader(data, 128, shuffle=True, collate_fn=collate, generator=order):  # type: ignore[arg-type]
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.model(letters.to(self.device))
                loss = nn.functional.cross_entropy(logits.float(), following.data.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            losses.append(loss.item())
        self.epochs += 1
        return sum(losses) / len(losses)
