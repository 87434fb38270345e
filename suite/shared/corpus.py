"""English text that every machine has: the language reference that ships with Python."""

from functools import cache
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor


@cache
def ranks() -> "np.ndarray[Any, Any]":
    """How common each character of the text is, 0 the most common."""
    characters = "".join(topics[key] for key in sorted(topics))
    codes = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
    _, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return (-counts).argsort(kind="stable").argsort()[ids]


def streams(classes: int, T: int, B: int, start: int = 0) -> Tensor:
    """Streams [T, B] of characters, each from its own place in the text, `start` characters further on.

    The most common characters have a class each, the others share the last.
    """
    ids = torch.from_numpy(ranks())
    places = torch.arange(B) * (ids.numel() // B) + start
    return ids[(places + torch.arange(T).unsqueeze(1)) % ids.numel()].clamp(max=classes - 1)
