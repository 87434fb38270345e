"""Inputs of workloads are of their sizes and lengths, and candidates are right at them."""

from dataclasses import replace

import torch
from torch.nn.utils.rnn import PackedSequence

from suite.measure import work
from suite.shared.candidates import find
from suite.shared.cases import PADDED
from suite.shared.examples import CPU, TINY


def test_a_ragged_workload_ends_rows_early() -> None:
    ragged = replace(TINY, lengths=(3, 1))
    x, packed = (work.example(case, torch.float32, CPU) for case in (TINY, ragged))
    assert isinstance(packed, PackedSequence)
    assert packed.batch_sizes.tolist() == [2, 1, 1]
    assert torch.equal(packed.data, torch.cat([x.data[0], x.data[1:, 0]]))
    work.train(find("torch.nn.LSTM").build(TINY, torch.float32, CPU), packed)


def test_a_check_of_packed_sequences_has_two_lengths() -> None:
    assert work.short(replace(TINY, B=3, lengths=(3, 2, 1)), 3).lengths == (2, 2, 1)
    assert work.short(replace(TINY, B=3), 5) == replace(TINY, T=2, B=5)


def test_the_padded_baseline_runs_all_steps_of_all_rows() -> None:
    case = replace(TINY, B=3, lengths=(3, 2, 1))
    x, padded, packed = work.example(case, torch.float32, CPU), find(PADDED), find("torch.nn.LSTM")
    model, lstm = padded.build(case, torch.float32, CPU), packed.build(case, torch.float32, CPU)
    lstm.load_state_dict(model.state_dict())
    out, _ = model(x)
    assert out.shape == (3, 3, TINY.H)
    torch.testing.assert_close(out[0], lstm(x)[0].data[:3])
