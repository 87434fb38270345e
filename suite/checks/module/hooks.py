"""Checks of the hooks of `torch.nn.utils` that compute a parameter from others before each call."""

from collections.abc import Callable

import torch
from torch.nn import Module
from torch.utils._pytree import tree_map

from suite.checks.module.capability_checks import CASE, Example, drawn
from suite.shared.compare import DRAWS, OUTPUTS, assert_bitwise_equal, assert_within_rule, implementation

#: The parameter that the hooks are put on, in every layer.
NAME = "weight_h"
Hook = Callable[[Module, str], object]


def hooked(put_on: Hook, take_off: Hook, name: str, device: torch.device) -> None:
    """Check a model after a training step under a hook against naive, and without it against one without hooks."""
    draws = []
    for seed in range(DRAWS):
        one = drawn(implementation(name)(CASE, torch.float32, device), CASE, torch.float32, device, seed)
        model = one.model
        for layer in model.layers:
            put_on(layer, NAME)
        out, last = model(one.x)
        torch.autograd.backward((out, *last), one.cotangents)
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        model.eval()  # or each call would change the weight of spectral_norm
        under = one.results()
        model.impl = "naive"
        oracle = Example(model.double(), one.x.double(), one.cotangents).results()
        model.float()
        draws.append((under, oracle, one.results()))
        model.impl = name
        for layer in model.layers:
            take_off(layer, NAME)
        without = implementation(name)(CASE, torch.float32, device)
        without.load_state_dict(model.state_dict())
        expected = one._replace(model=without).results()
        assert_bitwise_equal(one.results(), expected)
        assert_bitwise_equal({key: under[key] for key in OUTPUTS}, {key: expected[key] for key in OUTPUTS})
    assert_within_rule(*tree_map(lambda *q: torch.stack(q), *draws))
