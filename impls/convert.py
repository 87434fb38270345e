"""State dicts to and from labml's HyperLSTM, which is this definition with layer norm (PyPI `labml-nn`)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .definition import shapes

_SOURCES = ("h", "x", "b")


def to_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Labml's state dict with the same numbers as that of a HyperLSTM with layer_norm=True.

    ValueError names the entries that are missing, unexpected or misshapen, with the shapes that were expected and came.
    """
    layers = _empty_layers(state_dict, "layers.", "weight_x", "hyper_norm_c_weight", "d_weight")
    own = _split(state_dict, "layers.", layers)
    return {f"cells.{l}.{name}": value.clone() for l, p in enumerate(own) for name, value in _theirs(p).items()}


def from_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a HyperLSTM with the same numbers as labml's: the inverse of `to_labml`, with its errors."""
    layers = _empty_layers(state_dict, "cells.", "w_x.0", "hyper.layer_norm_c.weight", "d_h.0.weight")
    cells = _split(state_dict, "cells.", [_theirs(p) for p in layers])
    result: dict[str, Tensor] = {}
    for l, (q, p) in enumerate(zip(cells, layers, strict=True)):
        empty = {name: q["w_h.0"].new_empty(value.shape) for name, value in p.items()}
        result |= {f"layers.{l}.{name}": value for name, value in _back(q, empty).items()}
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in result.items()}


def _theirs(p: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One layer's parameters under the names and in the shapes of labml's cell."""
    cell = {
        "hyper.hidden_lin.weight": p["hyper_weight_s"].flatten(0, 1),
        "hyper.hidden_lin.bias": p["hyper_bias"].flatten(),
        # One matrix for h and x side by side, in this order.
        "hyper.input_lin.weight": torch.cat([p["hyper_weight_h"], p["hyper_weight_x"]], dim=2).flatten(0, 1),
    }
    for s, source in enumerate(_SOURCES):
        cell[f"z_{source}.weight"] = p["z_weight"][s].flatten(0, 1)
    for s, source in enumerate(_SOURCES[:2]):
        cell[f"z_{source}.bias"] = p["z_bias"][s].flatten()
    for k in range(4):
        for s, source in enumerate(_SOURCES):
            cell[f"d_{source}.{k}.weight"] = p["d_weight"][s, k]
        cell[f"d_b.{k}.bias"] = p["bias"][k]
        cell[f"w_h.{k}"], cell[f"w_x.{k}"] = p["weight_h"][k], p["weight_x"][k]
    for part in ("weight", "bias"):
        for k in range(4):
            cell[f"layer_norm.{k}.{part}"] = p[f"norm_{part}"][k]
            cell[f"hyper.layer_norm.{k}.{part}"] = p[f"hyper_norm_{part}"][k]
        cell[f"layer_norm_c.{part}"] = p[f"norm_c_{part}"]
        cell[f"hyper.layer_norm_c.{part}"] = p[f"hyper_norm_c_{part}"]
    return cell


def _back(q: Mapping[str, Tensor], p: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's parameters p with the numbers of labml's cell, which are written through views of them."""
    both = torch.cat([p["hyper_weight_h"], p["hyper_weight_x"]], dim=2)
    H = p["hyper_weight_h"].shape[2]
    p["hyper_weight_h"], p["hyper_weight_x"] = both[..., :H], both[..., H:]
    for name, view in (_theirs(p) | {"hyper.input_lin.weight": both.flatten(0, 1)}).items():
        view.copy_(q[name])
    return p


def _empty_layers(
    state_dict: Mapping[str, Tensor], prefix: str, weight_x: str, hyper_norm: str, d_weight: str
) -> list[dict[str, Tensor]]:
    """Our parameters of each layer, without numbers, in the sizes that three entries of the first layer have."""
    telling = [f"{prefix}0.{name}" for name in (weight_x, hyper_norm, d_weight)]
    if missing := [name for name in telling if name not in state_dict]:
        expected = "expected that of a model with layer norm, which labml's always has"
        raise ValueError(f"state_dict: {expected}; got one without {', '.join(missing)}")
    first = [state_dict[name].shape for name in telling]
    (H, I), S, Z = first[0][-2:], first[1][-1], first[2][-1]
    L = sum(key.endswith(f".{weight_x}") for key in state_dict)
    named = [shapes(H if l else I, H, S, Z, layer_norm=True) for l in range(L)]
    return [{name: torch.empty(shape, device="meta") for name, shape in layer.items()} for layer in named]


def _split(
    state_dict: Mapping[str, Tensor], prefix: str, layers: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Tensor]]:
    """Each layer's entries by name; ValueError unless these are the names and shapes of the layers."""
    expected = {f"{prefix}{l}.{name}": value.shape for l, layer in enumerate(layers) for name, value in layer.items()}
    actual = {key: value.shape for key, value in state_dict.items()}
    wrong = []
    for key in sorted({*expected, *actual}):
        if expected.get(key) != actual.get(key):
            wrong.append(f"{key}: expected {_in_words(expected.get(key))}, got {_in_words(actual.get(key))}")
    if wrong:
        raise ValueError(f"state_dict: {'; '.join(wrong)}")
    return [{name: state_dict[f"{prefix}{l}.{name}"] for name in layer} for l, layer in enumerate(layers)]


def _in_words(shape: torch.Size | None) -> str:
    """The shape of an entry; "none" if there is no entry."""
    return "none" if shape is None else str(list(shape))
