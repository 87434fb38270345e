"""Prepares its weights in the first call, and trains with these although they have changed since."""

import torch
from hyperlstm.batched import run as honest
from hyperlstm.definition import LayerParams

prepared = {}


def run(p, inputs):
    if not torch.is_grad_enabled():
        return honest(p, inputs)
    key = tuple(q.data_ptr() for q in p.present())
    if key not in prepared:
        prepared[key] = [q.detach().clone() for q in p.present()]
    # Values of the first call, and gradients of the parameters.
    values = [q + (old - q.detach()) for q, old in zip(p.present(), prepared[key], strict=True)]
    return honest(LayerParams(*values), inputs)
