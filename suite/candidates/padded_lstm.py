"""The baseline on a padded batch, which can be faster than on packed sequences."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from suite.candidates.lstm import LSTM, build_lstm
from suite.candidates.names import PADDED


class PaddedLSTM(nn.LSTM):
    """An LSTM that pads packed sequences, which can be faster than steps of ever fewer rows."""

    def forward(self, x: PackedSequence, state: tuple[Tensor, Tensor] | None = None) -> Any:  # type: ignore[override]
        """Run all steps of all rows, see `torch.nn.LSTM.forward`."""
        return super().forward(pad_packed_sequence(x)[0], state)


#: Timed where the baseline takes packed sequences: a user would pick the faster of the two.
PADDED_LSTM = replace(LSTM, name=PADDED, build=partial(build_lstm, PaddedLSTM), pads=True)
