"""State dicts to and from labml's HyperLSTM, which is this definition with layer norm (PyPI `labml-nn`)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .definition import LayerParams, shapes

_SOURCES = ("h", "x", "b")
_PARTS = ("weight", "bias")


def to_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Labml's state dict with the same numbers as that of a HyperLSTM with layer_norm=True.

    ValueError names what is missing, unexpected or misshapen.
    """
    layers = _split(state_dict, "layers.", LayerParams._fields)
    sizes = _sizes(layers[0], "layers.0.", "weight_x", "hyper_norm_c_weight", "d_weight")
    for l, p in enumerate(layers):
        _require_shapes(p, _ours(sizes, l), f"layers.{l}.")
    return {f"cells.{l}.{name}": value.clone() for l, p in enumerate(layers) for name, value in _theirs(p).items()}


def from_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a HyperLSTM with layer_norm=True with the same numbers as labml's: undo `to_labml`.

    ValueError names what is missing, unexpected or misshapen.
    """
    cells = _split(state_dict, "cells.", _theirs(_ours((1, 1, 1, 1), 0)))
    sizes = _sizes(cells[0], "cells.0.", "w_x.0", "hyper.layer_norm_c.weight", "d_h.0.weight")
    result: dict[str, Tensor] = {}
    for l, q in enumerate(cells):
        ours = _ours(sizes, l)
        _require_shapes(q, _theirs(ours), f"cells.{l}.")
        empty = {name: q["w_h.0"].new_empty(value.shape) for name, value in ours.items()}
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
    for part in _PARTS:
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


def _split(state_dict: Mapping[str, Tensor], prefix: str, names: Iterable[str]) -> list[dict[str, Tensor]]:
    """Each layer's entries by name; ValueError if there is no layer, a gap, or not just these names in each."""
    strangers = [key for key in state_dict if not (key.startswith(prefix) and key.split(".")[1].isdigit())]
    if strangers:
        raise ValueError(f"state_dict: expected entries {prefix}<layer>.<name>, got {', '.join(strangers[:3])}")
    found = sorted({int(key.split(".")[1]) for key in state_dict})
    if not found or found != list(range(len(found))):
        raise ValueError(f"state_dict: expected layers 0, 1, ... under {prefix!r}, got {found}")
    layers: list[dict[str, Tensor]] = [{} for _ in found]
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"state_dict ({key}): expected a tensor, got {type(value).__name__}")
        layers[int(key.split(".")[1])][key.split(".", 2)[-1]] = value
    for l, layer in enumerate(layers):
        for what, wrong in (("missing", set(names) - layer.keys()), ("unexpected", layer.keys() - set(names))):
            if wrong:
                raise ValueError(f"state_dict: {what} {', '.join(f'{prefix}{l}.{name}' for name in sorted(wrong))}")
    return layers


def _sizes(
    first: Mapping[str, Tensor], prefix: str, weight_x: str, hyper_norm: str, d_weight: str
) -> tuple[int, int, int, int]:
    """I, H, S, Z, as three entries of the first layer say that end in [H, I], [S] and [H, Z]."""
    for name, dims in ((weight_x, 2), (hyper_norm, 1), (d_weight, 1)):
        got = list(first[name].shape)
        if len(got) < dims or 0 in got:
            raise ValueError(f"state_dict ({prefix}{name}): expected {dims} or more dimensions, got shape {got}")
    (H, I), S, Z = first[weight_x].shape[-2:], first[hyper_norm].shape[-1], first[d_weight].shape[-1]
    return I, H, S, Z


def _ours(sizes: tuple[int, int, int, int], l: int) -> dict[str, Tensor]:
    """Layer l's parameters of a model of these sizes, without numbers; later layers read H features."""
    I, H, S, Z = sizes
    named = shapes(H if l else I, H, S, Z, layer_norm=True)
    return {name: torch.empty(shape, device="meta") for name, shape in named.items()}


def _require_shapes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str) -> None:
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ValueError(
                f"state_dict ({prefix}{name}): expected shape {list(value.shape)}, got {list(found[name].shape)}"
            )
