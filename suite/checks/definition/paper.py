"""The models whose parameters the paper counts (tables 3 to 5, in millions), and our count of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    table: int
    I: int
    H: int
    S: int
    Z: int
    L: int
    layer_norm: bool
    outputs: int  # of the softmax layer, or of the mixture density layer that handwriting has in its place
    paper_millions: str  # as printed

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
            "embedding": 0 if self.table == 5 else self.I * self.outputs,  # table 5 reads pen offsets, no classes
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


MODELS = (
    Model("char-PTB LSTM", 3, 50, 1000, 0, 0, 1, False, 50, "4.25"),
    Model("char-PTB LSTM, 1250 units", 3, 50, 1250, 0, 0, 1, False, 50, "6.57"),
    Model("char-PTB 2-layer LSTM", 3, 50, 1000, 0, 0, 2, False, 50, "12.26"),
    Model("char-PTB Layer Norm LSTM", 3, 50, 1000, 0, 0, 1, True, 50, "4.26"),
    Model("char-PTB HyperLSTM", 3, 50, 1000, 128, 4, 1, False, 50, "4.91"),
    Model("char-PTB Layer Norm HyperLSTM", 3, 50, 1000, 128, 4, 1, True, 50, "4.92"),
    Model("char-PTB Layer Norm HyperLSTM, large embedding", 3, 50, 1000, 128, 16, 1, True, 50, "5.06"),
    Model("char-PTB 2-layer Norm HyperLSTM", 3, 50, 1000, 128, 16, 2, True, 50, "14.41"),
    Model("enwik8 HyperLSTM", 4, 205, 1800, 256, 64, 1, False, 205, "18.71"),
    Model("enwik8 Layer Norm HyperLSTM", 4, 205, 1800, 256, 64, 1, True, 205, "18.78"),
    Model("enwik8 Layer Norm HyperLSTM, 2048 units", 4, 205, 2048, 512, 64, 1, True, 205, "26.54"),
    Model("IAM handwriting HyperLSTM", 5, 3, 900, 128, 4, 1, False, 121, "3.94"),
    Model("IAM handwriting Layer Norm HyperLSTM", 5, 3, 900, 128, 4, 1, True, 121, "3.95"),
)

#: The rows that the definition does not reproduce; suite/checks/README.md says what is known of them.
MISSES = ("char-PTB Layer Norm HyperLSTM, large embedding", "enwik8 Layer Norm HyperLSTM")
