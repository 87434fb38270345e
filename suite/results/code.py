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
    return _meaning_of_python(text) if path.suffix == ".py" else _meaning_of_cpp(text)


def digest(texts: Collection[str]) -> str:
    """Hash of several texts, in twelve hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


@cache
def _meaning_of_cpp(text: str) -> str:
    without_comments = _COMMENT.sub(lambda match: match[1] or " ", text)
    joined = without_comments.replace("\\\n", " ")
    # A directive ends with its line.
    marked = re.sub(r"^[ \t]*#.*$", r"\g<0> @", joined, flags=re.MULTILINE)
    return "\1".join(_TOKEN.findall(marked))


@cache
def _meaning_of_python(text: str) -> str:
    try:
        return repr(_tree(ast.parse(text)))
    except SyntaxError:  # a file of a user, while it is edited
        return text


def _tree(node: Any) -> Any:
    """Nested lists of a syntax tree; `ast.dump` writes another text in each version of Python."""
    if isinstance(node, list):
        return [_tree(part) for part in node if not _is_docstring(part)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts in some
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    tree: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        empty = value is None or value == []
        if name not in _SILENT and not empty:
            tree.append([name, _tree(value)])
    return tree


def _is_docstring(node: Any) -> bool:
    """True for a statement that is only a text."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
