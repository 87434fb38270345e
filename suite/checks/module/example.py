"""Predict the next character of Python's documentation, by a HyperLSTM and by an LSTM whose steps take about as long.

`python -m suite.checks.module.example` trains them in a minute on two cores, and a HyperLSTM without layer norm too. In
your own project import HyperLSTM from `hyperlstm`.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from impls import HyperLSTM

#: Starts and ends each line; other characters are their code points, of which one beyond ASCII is 127.
EDGE, CHARACTERS = 0, 128
#: Every tenth line is held out.
HELD_OUT = 10


def lines() -> list[Tensor]:
    """Lines of the documentation, each once, as numbers of characters: [length + 2] each."""
    unique = dict.fromkeys(line.strip() for text in topics.values() for line in text.splitlines())
    coded = [[EDGE, *(min(ord(character), CHARACTERS - 1) for character in line), EDGE] for line in unique if line]
    return [torch.tensor(line) for line in coded]


def packed(batch: Sequence[Tensor]) -> tuple[PackedSequence, Tensor]:
    """Packed characters of some lines, and the character after each of them: [N]."""
    batch = sorted(batch, key=len, reverse=True)
    return pack_sequence([line[:-1] for line in batch]), pack_sequence([line[1:] for line in batch]).data


def batches(data: Sequence[Tensor], size: int = 32) -> Iterator[tuple[PackedSequence, Tensor]]:
    """Batches of lines in random order, without end."""
    while True:
        order = torch.randperm(len(data)).tolist()
        for first in range(0, len(order) - size + 1, size):
            yield packed([data[i] for i in order[first : first + size]])


class PaddedLSTM(nn.LSTM):
    """`torch.nn.LSTM` that pads packed sequences, which is faster on a CPU."""

    def forward(self, x: PackedSequence, state: Any = None) -> Any:  # type: ignore[override]
        """Run the padded batch; returns out packed, and None."""
        padded, lengths = pad_packed_sequence(x)
        return pack_padded_sequence(super().forward(padded, state)[0], lengths), None


class Predictor(nn.Module):
    """Characters in, logits of the next character out."""

    def __init__(self, recurrent: nn.Module, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, input_size)
        self.recurrent = recurrent
        self.head = nn.Linear(hidden_size, CHARACTERS)

    def forward(self, x: PackedSequence) -> Tensor:
        """Logits [N, CHARACTERS], in the order of `x.data`."""
        out, _ = self.recurrent(x._replace(data=self.embedding(x.data)))
        logits: Tensor = self.head(out.data)
        return logits


def predictors() -> dict[str, Predictor]:
    """The models by name."""
    torch.manual_seed(0)
    hyper = partial(HyperLSTM, input_size=32, hidden_size=128, hyper_size=32, n_z=4, n_layers=1)
    recurrent = {
        "HyperLSTM": hyper(layer_norm=True),
        "without layer norm": hyper(layer_norm=False),
        "LSTM": PaddedLSTM(32, 128),
    }
    return {name: Predictor(model, 32, 128) for name, model in recurrent.items()}


def loss_of(model: Predictor, x: PackedSequence, following: Tensor) -> Tensor:
    """Cross-entropy of the characters that follow those in x, in nats per character."""
    device = model.head.weight.device
    logits = model(x._replace(data=x.data.to(device)))
    return nn.functional.cross_entropy(logits, following.to(device))


def train(model: Predictor, optimizer: torch.optim.Optimizer, steps: Iterable[tuple[PackedSequence, Tensor]]) -> float:
    """Take a step on each of some batches; returns seconds."""
    start = time.perf_counter()
    for x, following in steps:
        loss = loss_of(model, x, following)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - start


@torch.no_grad()
def bits(model: Predictor, held_out: Sequence[Tensor]) -> float:
    """Cross-entropy of some lines in bits per character."""
    return loss_of(model, *packed(held_out)).item() / math.log(2)


def main(steps: int = 1000, every: int = 100) -> None:
    """Train the models in turns, and print the held-out loss of each."""
    data = lines()
    held_out, rest = data[::HELD_OUT], [line for i, line in enumerate(data) if i % HELD_OUT]
    models = predictors()
    optimizers, batches_of = {}, {}
    for name, model in models.items():
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        optimizers[name] = torch.optim.Adam(model.parameters(), lr=1e-2)
        batches_of[name] = batches(rest)
    torch.manual_seed(1)
    print("held-out bits per character (ms per step)")
    print("step".rjust(6) + "".join(name.rjust(20) for name in models))
    for step in range(every, steps + 1, every):
        cells = []
        for name, model in models.items():
            seconds = train(model, optimizers[name], islice(batches_of[name], every))
            cells.append(f"{bits(model, held_out):.3f} ({1e3 * seconds / every:.1f})")
        print(f"{step:6}" + "".join(cell.rjust(20) for cell in cells), flush=True)


if __name__ == "__main__":
    main()
