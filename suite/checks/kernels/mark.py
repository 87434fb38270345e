"""The mark that a GPU has verified an implementation, after which `impl="auto"` takes it there (`impls/proof.py`)."""

import json
import warnings

import torch

from impls import proof
from suite.shared.files import ResultsError, write_whole


def record(name: str, device: torch.device) -> None:
    """Write the mark that an implementation passed all checks on a GPU; where that fails, warn."""
    try:
        write_whole(proof.path(name, device), json.dumps(proof.conditions(device), indent=1) + "\n")
    except ResultsError as error:
        warnings.warn(f"{error} Without this mark 'auto' does not take {name}.", RuntimeWarning, stacklevel=2)
