"""Digests of code that change with what it does, not with comments, docstrings and layout."""

import ast
import hashlib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

#: Tokens of C++: literals, words, operators of several characters, and single characters.
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\w+|<=>|\.\.\.|->\*?|::|<<=?|>>=?|&&|\|\||\+\+|--|[-+*/%&|^!=<>]=|\S'
)
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')|//[^\n]*|/\*.*?\*/', re.DOTALL)
#: Fields of Python's syntax tree that say nothing about what the code does.
_SILENT = ("ctx", "kind", "type_comment")


def meaning(path: Path) -> str:
    """Text of a file of Python or C++ without comments, docstrings and layout."""
    text = path.read_text(encoding="utf-8")
    return _plain_python(text) if path.suffix == ".py" else _plain_cpp(text)


def digest(texts: Collection[str]) -> str:
    """Hash of several texts, in twelve hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


@cache
def _plain_cpp(text: str) -> str:
    text = _COMMENT.sub(lambda found: found[1] or " ", text).replace("\\\n", " ")
    # A directive ends with its line.
    return "\1".join(_TOKEN.findall(re.sub(r"^[ \t]*#.*$", r"\g<0> @", text, flags=re.MULTILINE)))


@cache
def _plain_python(text: str) -> str:
    try:
        return repr(_tree(ast.parse(text)))
    except SyntaxError:  # a file of a user, while it is edited
        return text


def _tree(node: Any) -> Any:
    """Nested lists of a syntax tree; `ast.dump` writes another text in each version of Python."""
    if isinstance(node, list):
        return [_tree(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in some
        node = ast.JoinedStr([each for each in node.values if getattr(each, "value", None) != ""])
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _SILENT]
    return [type(node).__name__, *([name, _tree(value)] for name, value in fields if value is not None and value != [])]


def _is_docstring(node: Any) -> bool:
    """True for a statement that is only a text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
