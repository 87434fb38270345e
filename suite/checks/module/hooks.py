"""Checks of the hooks of `torch.nn.utils` that compute a parameter from others before each call."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from torch.utils._pytree import tree_map

from impls import HyperLSTM
from suite.checks.module.capability_checks import CASE, Given, drawn
from suite.shared.compare import DRAWS, OUTPUTS, Results, assert_bitwise_equal, assert_within_rule, implementation

#: The parameter that the hooks are put on, in every layer.
NAME = "weight_h"


class Hook(NamedTuple):
    """How a hook is put on a parameter and taken off.

    value: the parameter, from what the hook registers in its place, by the end of the name.
    """

    put_on: Callable[[Module, str], object]
    value: Callable[[Mapping[str, Tensor]], Tensor]
    take_off: Callable[[Module, str], object]


PRUNE = Hook(partial(prune.random_unstructured, amount=0.5), lambda q: q["orig"] * q["mask"], prune.remove)
WEIGHT_NORM = Hook(weight_norm, lambda q: q["g"] * q["v"] / q["v"].norm(dim=(1, 2), keepdim=True), remove_weight_norm)
SPECTRAL_NORM = Hook(
    spectral_norm, lambda q: q["orig"] / (q["u"] @ q["orig"].flatten(1) @ q["v"]), remove_spectral_norm
)


def hooked(hook: Hook, name: str, device: torch.device) -> None:
    """Check a model after a training step under the hook, and again without it, against one without hooks."""
    found, oracle, naive = [], [], []
    for seed in range(DRAWS):
        one = drawn(implementation(name)(CASE, torch.float32, device), CASE, torch.float32, device, seed)
        for layer in one.model.layers:
            hook.put_on(layer, NAME)
        out, last = one.model(one.x)
        torch.autograd.backward((out, *last), one.cotangents)
        torch.optim.SGD(one.model.parameters(), lr=0.01).step()
        found.append(one.results())
        oracle.append(_plain(hook, one, torch.float64))
        naive.append(_plain(hook, one, torch.float32))
        for layer in one.model.layers:
            hook.take_off(layer, NAME)
        _comes_off(one, found[-1])
    assert_within_rule(*(tree_map(lambda *q: torch.stack(q), *results) for results in (found, oracle, naive)))


def _plain(hook: Hook, one: Given, dtype: torch.dtype) -> Results:
    """Results of naive in dtype, from the value of each parameter; the model is in that dtype afterwards."""
    naive = implementation("naive")(CASE, dtype, one.x.device)
    model: HyperLSTM = one.model.to(dtype)

    def call(x: Tensor) -> Any:
        state = model.state_dict(keep_vars=True)
        parts = {key: {k.removeprefix(f"{key}_"): state[k] for k in state if k.startswith(f"{key}_")} for key in own}
        return functional_call(naive, {key: hook.value(parts[key]) if parts[key] else state[key] for key in own}, (x,))

    own = list(naive.state_dict())
    return Given(model, one.x.to(dtype), one.cotangents).results(call)


def _comes_off(one: Given, under: Results) -> None:
    """Check that taking the hooks off keeps the outputs, and leaves a model that equals one without hooks."""
    again = implementation(one.model.impl)(CASE, torch.float32, one.x.device)
    again.load_state_dict(one.model.state_dict())
    found = one.results()
    assert_bitwise_equal({key: found[key] for key in OUTPUTS}, {key: under[key] for key in OUTPUTS})
    assert_bitwise_equal(found, one._replace(model=again).results())
