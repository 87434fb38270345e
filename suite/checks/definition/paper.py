"""The models whose parameters the paper counts (tables 3 to 5, in millions), and our count of each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from impls import HyperLSTM
from suite.shared.format import millions

META = torch.device("meta")
#: Parts that the definition does not have.
NOT_OURS = ("second_biases", "embedding")
#: Ways to count, as the parts that are left out.
BOOKKEEPING = {
    "one bias per gate, one-hot input, an output layer with a bias": NOT_OURS,
    "the output layer without a bias": (*NOT_OURS, "output_biases"),
    "no output layer": (*NOT_OURS, "output_biases", "output_weights"),
    "without the norms": (*NOT_OURS, "norms"),
    "without the weights from h_hat to z": (*NOT_OURS, "z_weights"),
    "a second bias per gate in an LSTM, as in torch.nn.LSTM": ("embedding",),
    "an embedding of the input's classes": ("second_biases",),
}


@dataclass(frozen=True)
class Model:
    """One row of the paper's tables; S and Z are 0 for an LSTM."""

    model: str
    I: int
    H: int
    S: int
    Z: int
    L: int
    outputs: int  # of the softmax layer, or of the mixture density layer that handwriting has in its place
    paper: str  # parameters in millions, as printed
    ours: str  # as `count` should give them

    @property
    def layer_norm(self) -> bool:
        return "Norm" in self.model

    def parts(self) -> dict[str, int]:
        """Parameters of each part; ours are the definition's and an output layer with a bias."""
        counts = [(name, p.numel()) for name, p in self._weights()]
        norms = sum(count for name, count in counts if "norm" in name)
        z_weights = sum(count for name, count in counts if name.endswith("z_weight"))
        output = nn.Linear(self.H, self.outputs, device=META)
        return {
            "weights": sum(count for _, count in counts) - norms - z_weights,
            "z_weights": z_weights,
            "norms": norms,
            "output_weights": output.weight.numel(),
            "output_biases": output.bias.numel(),
            "second_biases": 0 if self.S else 4 * self.H * self.L,
            "embedding": 0 if "handwriting" in self.model else self.I * self.outputs,  # which reads pen offsets
        }

    def count(self, without: Sequence[str] = NOT_OURS) -> str:
        """Parameters in millions, as the paper prints them, without some parts."""
        return millions(sum(count for part, count in self.parts().items() if part not in without))

    def _weights(self) -> Iterable[tuple[str, nn.Parameter]]:
        if self.S:
            sizes = self.I, self.H, self.S, self.Z, self.L
            return HyperLSTM(*sizes, layer_norm=self.layer_norm, device=META).named_parameters()
        lstm = nn.LSTM(self.I, self.H, self.L, device=META)
        # torch's LSTM has no layer norm: one for each gate and one for the cell, as in the paper's A.2.2.
        norms = nn.ModuleList(nn.LayerNorm(self.H, device=META) for _ in range(5 * self.L if self.layer_norm else 0))
        once = [(name, p) for name, p in lstm.named_parameters() if not name.startswith("bias_hh")]
        return [*once, *((f"norm.{name}", p) for name, p in norms.named_parameters())]


def _models() -> Iterator[Model]:
    for line in Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8").splitlines():
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if name.startswith(("char-PTB", "enwik8", "IAM")):
            I, H, S, Z, L, outputs = (0 if size == "-" else int(size) for size in cells[:6])
            yield Model(name, I, H, S, Z, L, outputs, *cells[6:])


#: As the table of suite/checks/README.md lists them.
MODELS = tuple(_models())
#: The rows that the definition does not reproduce; suite/checks/README.md says what is known of them.
MISSES = ("char-PTB Layer Norm HyperLSTM, large embedding", "enwik8 Layer Norm HyperLSTM")
