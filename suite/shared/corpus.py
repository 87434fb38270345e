"""English text that every machine has: the language reference that ships with Python."""

import hashlib
from collections import Counter
from functools import cache
from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from torch import Tensor


class Text(NamedTuple):
    """A text as classes of characters, and its hash, as it differs between Python versions."""

    classes: Tensor  # [characters]
    sha256: str


@cache
def text(classes: int) -> Text:
    """Text in a number of classes: the most common characters have one each, the others share the last."""
    characters = "".join(topics[key] for key in sorted(topics))
    commonest = sorted(Counter(characters).items(), key=lambda item: (-item[1], item[0]))[: classes - 1]
    number = {character: k for k, (character, _) in enumerate(commonest)}
    ids = torch.tensor([number.get(character, classes - 1) for character in characters])
    return Text(ids, hashlib.sha256(characters.encode()).hexdigest())


def streams(classes: int, T: int, B: int, start: int = 0) -> Tensor:
    """Streams [T, B] of characters, each from its own place in the text, `start` characters further on."""
    ids = text(classes).classes
    apart = ids.numel() // B
    places = torch.arange(B) * apart + start
    return ids[(places + torch.arange(T).unsqueeze(1)) % ids.numel()]
