"""The baseline, `torch.nn.LSTM`, and the same on padded batches."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from suite.candidates.candidate import Candidate
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import Case
from suite.shared.devices import DeviceType


def build(case: Case, dtype: torch.dtype, device: torch.device, *, pads: bool = False) -> nn.LSTM:
    """An LSTM whose weights on a GPU share one buffer, as cuDNN takes them.

    torch makes that buffer itself for float32 and float16; for bfloat16 every call would copy all weights into one.
    pads: it takes packed sequences, and runs all steps of all rows.
    """
    # torch warns of dropout after the only layer, where it has no effect.
    lstm = nn.LSTM(case.I, case.H, case.L, dropout=case.dropout if case.L > 1 else 0.0, dtype=dtype, device=device)
    if device.type == DeviceType.CUDA and dtype == torch.bfloat16 and torch.backends.cudnn.is_available():
        mode = torch.backends.cudnn.rnn.get_cudnn_mode(lstm.mode)
        with torch.no_grad(), torch.cuda.device(device):
            torch._cudnn_rnn_flatten_weight(list(lstm.parameters()), 4, case.I, mode, case.H, 0, case.L, False, False)
    if pads:
        of_batch = lstm.forward

        def forward(x: PackedSequence, state: tuple[Tensor, Tensor] | None = None) -> Any:
            return of_batch(pad_packed_sequence(x)[0], state)

        lstm.forward = forward  # type: ignore[method-assign, assignment]
    return lstm


#: The baseline of all rounds. Its own row is the A/A run: the baseline against itself.
LSTM = Candidate(
    BASELINE,
    build,
    layer_norms=(False,),
    why_unavailable=lambda *_: None,
    compared=False,
    multiply_adds=lambda case: case.tokens * sum(4 * case.H * (case.H + I) for I in case.inputs),
    saved=lambda case: case.H,
)
#: Timed where the baseline takes packed sequences: a user would pick the faster of the two.
PADDED_LSTM = replace(LSTM, name=PADDED, build=partial(build, pads=True), pads=True)
