"""English text that every machine has: the language reference that ships with Python."""

import hashlib
from functools import cache
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Text(NamedTuple):
    """A text as classes of characters, and its hash, as it differs between Python versions."""

    classes: Tensor  # [characters]
    sha256: str


@cache
def ranks() -> tuple["np.ndarray[Any, Any]", str]:
    """How common each character of the text is, 0 the most common; and the hash of the text."""
    characters = "".join(topics[key] for key in sorted(topics))
    codes = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
    _, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rank = (-counts).argsort(kind="stable").argsort()
    return rank[ids], hashlib.sha256(characters.encode()).hexdigest()


@cache
def text(classes: int) -> Text:
    """Text in a number of classes: the most common characters have one each, the others share the last."""
    values, sha256 = ranks()
    return Text(torch.from_numpy(values.clip(max=classes - 1)), sha256)


def streams(classes: int, T: int, B: int, start: int = 0) -> Tensor:
    """Streams [T, B] of characters, each from its own place in the text, `start` characters further on."""
    ids = text(classes).classes
    apart = ids.numel() // B
    places = torch.arange(B) * apart + start
    return ids[(places + torch.arange(T).unsqueeze(1)) % ids.numel()]
