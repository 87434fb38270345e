"""Markdown that a page has written, as opposed to plain text, which pages show as it is."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from suite.shared.text import in_one_line

#: A span of code between single backticks, or what Markdown would not show as it is.
_MARKED = re.compile(r"(?<!`)`[^`]+`(?!`)|[\\`*<\[\]&]|(?<![^\W_])_|_(?![^\W_])")


class Markdown(str):
    """Markdown that a page has written. Any other text is plain, such as a name, a caption or an error."""

    __slots__ = ()


def escaped(text: str) -> Markdown:
    """Markdown in one line that shows a text, which is plain unless it is `Markdown`.

    Messages have code between backticks, which stays code.
    """
    if isinstance(text, Markdown):
        return text
    return Markdown(_MARKED.sub(_shown, in_one_line(text)))


def _shown(match: re.Match[str]) -> str:
    """Markdown that shows a character which means something in Markdown, or a span of code."""
    marked = match[0]
    return marked if len(marked) > 1 else f"\\{marked}"


@dataclass(frozen=True)
class Markup:
    """How sentences mark words where they are shown.

    strong_mark, code_mark: the mark on either side of strong words, and of words of code.
    escape: shows any other text as it is.
    """

    strong_mark: str
    code_mark: str
    escape: Callable[[str], str]

    def strong(self, text: str) -> str:
        return f"{self.strong_mark}{text}{self.strong_mark}"

    def code(self, text: str) -> str:
        return f"{self.code_mark}{text}{self.code_mark}"


TERMINAL, ON_PAGE = Markup("", "", str), Markup("**", "`", escaped)
