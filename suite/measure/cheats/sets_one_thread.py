"""Leaves torch another number of threads, which slows the baseline alone."""

import torch
from hyperlstm.batched import run as honest

other = 2 if torch.get_num_threads() == 1 else 1


def run(p, inputs):
    torch.set_num_threads(other)
    return honest(p, inputs)
