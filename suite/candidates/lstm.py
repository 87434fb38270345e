"""The baseline, `torch.nn.LSTM`."""

from functools import partial

import torch
from torch import nn

from suite.candidates.candidate import Candidate
from suite.candidates.names import BASELINE
from suite.cases.case import Case
from suite.shared.devices import DeviceType


def build_lstm(cls: type[nn.LSTM], case: Case, dtype: torch.dtype, device: torch.device) -> nn.LSTM:
    """An LSTM whose weights on a GPU share one buffer, as cuDNN takes them.

    torch makes that buffer itself for float32 and float16; for bfloat16 every call would copy all weights into one.
    """
    # torch warns of dropout after the only layer, where it has no effect.
    lstm = cls(case.I, case.H, case.L, dropout=case.dropout if case.L > 1 else 0.0, dtype=dtype, device=device)
    if device.type == DeviceType.CUDA and dtype == torch.bfloat16 and torch.backends.cudnn.is_available():
        mode = torch.backends.cudnn.rnn.get_cudnn_mode(lstm.mode)
        with torch.no_grad(), torch.cuda.device(device):
            torch._cudnn_rnn_flatten_weight(list(lstm.parameters()), 4, case.I, mode, case.H, 0, case.L, False, False)
    return lstm


#: The baseline of all rounds. Its own row is the A/A run: the baseline against itself.
LSTM = Candidate(
    BASELINE,
    partial(build_lstm, nn.LSTM),
    layer_norms=(False,),
    why_unavailable=lambda *_: None,
    compared=False,
    multiply_adds=lambda case: case.tokens * sum(4 * case.H * (case.H + I) for I in case.inputs),
    saved=lambda case: case.H,
)
