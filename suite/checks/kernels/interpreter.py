"""Triton's interpreter, in a process that does nothing else with Triton."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from triton.runtime import interpreter


def patch_language_once() -> None:
    """Have the interpreter patch `triton.language` once a module, not at each call of each function: half its time."""
    patch: Callable[[Any], Any] = interpreter._patch_lang
    patched: set[int] = set()

    def once(fn: Any) -> Any:
        if id(fn.__globals__) not in patched:
            patched.add(id(fn.__globals__))
            patch(fn)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once
