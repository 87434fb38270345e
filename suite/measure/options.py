"""Options of the commands that measure, and the candidates of a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from impls.registry import resolve
from suite.shared import machine
from suite.shared.arithmetic import ARITHMETICS, dtype_of, why_not
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import ALTERNATIVES
from suite.shared.files import RESULTS


def parent() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(add_help=False)
    add = result.add_argument
    everything = [candidate.name for candidate in candidates()]
    add("--implementation", nargs="+", choices=everything, help="default: all, what is slow in few places")
    add("--dtype", nargs="+", choices=ARITHMETICS, default=["float32"], help="default: float32")
    device = machine.default_device()
    add("--device", type=machine.device_of, default=device, help="default: CUDA if there is one, else the CPU")
    add("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    return result


def fastest(device: torch.device, dtype: str) -> str:
    """The implementation that "auto" takes; "" if none runs."""
    try:
        return resolve("auto", device, dtype_of(dtype)).name
    except RuntimeError:
        return ""


def studied(options: argparse.Namespace, dtype: str, layer_norm: bool) -> list[Candidate]:
    """Candidates of a study that run here, by default without what compiles for each size.

    With layer norm, these are the alternatives, as labml's module has no other form, and the fastest implementation.
    """
    names = options.implementation or [one.name for one in candidates() if not one.compiles_each_size]
    if layer_norm:
        names = [name for name in names if name in (fastest(options.device, dtype), *ALTERNATIVES)]
    return able(options, names, dtype, layer_norm)


def able(options: argparse.Namespace, names: Sequence[str], dtype: str, layer_norm: bool) -> list[Candidate]:
    """Candidates of these names that run, with layer norm or without."""
    if why_not(dtype, options.device) is not None:
        return []
    matches = [one for one in map(find, names) if layer_norm in one.layer_norms]
    return [one for one in matches if one.why_unavailable(options.device, dtype_of(dtype)) is None]
