"""State dicts to and from labml's HyperLSTM, which is this definition with layer norm (PyPI `labml-nn`)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .layer import shapes

_SOURCES = ("h", "x", "b")


def to_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return labml's state dict with the same numbers as that of a HyperLSTM with layer_norm=True.

    ValueError names what is missing, unexpected or misshapen.
    """
    result: dict[str, Tensor] = {}
    for l in range(_layers(state_dict, "layers.")):
        p = {name: state_dict[f"layers.{l}.{name}"] for name in _names(state_dict, f"layers.{l}.")}
        _require(p, _OURS, f"layers.{l}.")
        _require_shapes(p, _our_shapes(p), f"layers.{l}.")
        cell = {
            "hyper.hidden_lin.weight": p["hyper_weight_s"].flatten(0, 1),
            "hyper.hidden_lin.bias": p["hyper_bias"].flatten(),
            # One matrix for h and x side by side, in this order.
            "hyper.input_lin.weight": torch.cat([p["hyper_weight_h"], p["hyper_weight_x"]], dim=2).flatten(0, 1),
            "hyper.layer_norm_c.weight": p["hyper_norm_c_weight"],
            "hyper.layer_norm_c.bias": p["hyper_norm_c_bias"],
            "layer_norm_c.weight": p["norm_c_weight"],
            "layer_norm_c.bias": p["norm_c_bias"],
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
                cell[f"layer_norm.{k}.{part}"] = p[f"norm_{part}"][k]
                cell[f"hyper.layer_norm.{k}.{part}"] = p[f"hyper_norm_{part}"][k]
        result |= {f"cells.{l}.{name}": value.clone() for name, value in cell.items()}
    return result


def from_labml(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a HyperLSTM with layer_norm=True with the same numbers as labml's: undo `to_labml`.

    ValueError names what is missing, unexpected or misshapen.
    """
    result: dict[str, Tensor] = {}
    for l in range(_layers(state_dict, "cells.")):
        q = {name: state_dict[f"cells.{l}.{name}"] for name in _names(state_dict, f"cells.{l}.")}
        _require(q, _THEIRS, f"cells.{l}.")
        _require_shapes(q, _their_shapes(q), f"cells.{l}.")
        H = q["w_h.0"].shape[0]

        def gates(name: str, q: Mapping[str, Tensor] = q) -> Tensor:
            return torch.stack([q[name.format(k)] for k in range(4)])

        hyper_h_x = q["hyper.input_lin.weight"].unflatten(0, (4, -1))
        layer = {
            "weight_x": gates("w_x.{}"),
            "weight_h": gates("w_h.{}"),
            "bias": gates("d_b.{}.bias"),
            "hyper_weight_x": hyper_h_x[..., H:],
            "hyper_weight_h": hyper_h_x[..., :H],
            "hyper_weight_s": q["hyper.hidden_lin.weight"].unflatten(0, (4, -1)),
            "hyper_bias": q["hyper.hidden_lin.bias"].unflatten(0, (4, -1)),
            "z_weight": torch.stack([q[f"z_{source}.weight"].unflatten(0, (4, -1)) for source in _SOURCES]),
            "z_bias": torch.stack([q[f"z_{source}.bias"].unflatten(0, (4, -1)) for source in _SOURCES[:2]]),
            "d_weight": torch.stack([gates(f"d_{source}.{{}}.weight") for source in _SOURCES]),
        }
        for part in ("weight", "bias"):
            layer[f"norm_{part}"] = gates(f"layer_norm.{{}}.{part}")
            layer[f"norm_c_{part}"] = q[f"layer_norm_c.{part}"]
            layer[f"hyper_norm_{part}"] = gates(f"hyper.layer_norm.{{}}.{part}")
            layer[f"hyper_norm_c_{part}"] = q[f"hyper.layer_norm_c.{part}"]
        result |= {
            f"layers.{l}.{name}": value.clone(memory_format=torch.contiguous_format) for name, value in layer.items()
        }
    return result


_NORM_PARTS = ("weight", "bias")
_OURS = {
    *("weight_x", "weight_h", "bias", "hyper_weight_x", "hyper_weight_h", "hyper_weight_s", "hyper_bias"),
    *("z_weight", "z_bias", "d_weight"),
    *(f"{norm}_{part}" for norm in ("norm", "norm_c", "hyper_norm", "hyper_norm_c") for part in _NORM_PARTS),
}
_THEIRS = {
    *("hyper.hidden_lin.weight", "hyper.hidden_lin.bias", "hyper.input_lin.weight"),
    *("z_h.weight", "z_h.bias", "z_x.weight", "z_x.bias", "z_b.weight"),
    *(f"w_{source}.{k}" for source in "hx" for k in range(4)),
    *(f"d_{source}.{k}.weight" for source in "hxb" for k in range(4)),
    *(f"d_b.{k}.bias" for k in range(4)),
    *(f"{cell}layer_norm.{k}.{part}" for cell in ("", "hyper.") for k in range(4) for part in _NORM_PARTS),
    *(f"{cell}layer_norm_c.{part}" for cell in ("", "hyper.") for part in _NORM_PARTS),
}


def _names(state_dict: Iterable[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)]


def _layers(state_dict: Iterable[str], prefix: str) -> int:
    """Return how many layers a state dict has; ValueError if it has none, a gap, or anything beside them."""
    keys = list(state_dict)
    strangers = [key for key in keys if not (key.startswith(prefix) and key.split(".")[1].isdigit())]
    if strangers:
        raise ValueError(f"state_dict: expected entries {prefix}<layer>.<name>, got {', '.join(strangers[:3])}")
    found = {int(key.split(".")[1]) for key in keys}
    if not found or found != set(range(len(found))):
        raise ValueError(f"state_dict: expected layers 0, 1, ... under {prefix!r}, got {sorted(found)}")
    return len(found)


def _require(found: Iterable[str], expected: set[str], prefix: str) -> None:
    missing, strangers = expected - set(found), set(found) - expected
    if missing:
        raise ValueError(f"state_dict: missing {', '.join(prefix + name for name in sorted(missing))}")
    if strangers:
        raise ValueError(f"state_dict: unexpected {', '.join(prefix + name for name in sorted(strangers))}")


def _size(value: Any) -> int:
    """Return the last size, with which other entries should agree; 0, with which none does, where there is none."""
    shape = value.shape if isinstance(value, Tensor) else ()
    return shape[-1] if shape else 0


def _our_shapes(p: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    I, H, S, Z = (_size(p[name]) for name in ("weight_x", "bias", "hyper_bias", "z_bias"))
    return shapes(I, H, S, Z, layer_norm=True)


def _their_shapes(q: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    I, H, S, Z = (_size(q[name]) for name in ("w_x.0", "w_h.0", "hyper.hidden_lin.weight", "d_h.0.weight"))
    ours = shapes(I, H, S, Z, layer_norm=True)
    theirs = to_labml({f"layers.0.{name}": torch.empty(shape, device="meta") for name, shape in ours.items()})
    return {name.removeprefix("cells.0."): tuple(value.shape) for name, value in theirs.items()}


def _require_shapes(found: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], prefix: str) -> None:
    for name, shape in expected.items():
        value = found[name]
        if not isinstance(value, Tensor):
            raise ValueError(f"state_dict: {prefix}{name}: expected a tensor, got {type(value).__name__}")
        if value.shape != shape:
            raise ValueError(f"state_dict: {prefix}{name}: expected shape {list(shape)}, got {list(value.shape)}")
