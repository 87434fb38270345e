"""What the project's pages contain: blocks of code, commands, links and headings."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from nox import registry

import noxfile  # noqa: F401, which registers the sessions
from suite.shared.files import ROOT

#: Pages that people write; those of results are made from CSV files.
WRITTEN = [ROOT / "README.md", *sorted(ROOT.glob("impls/**/*.md")), *sorted(ROOT.glob("suite/**/*.md"))]
PAGES = [*WRITTEN, *sorted(ROOT.glob("results/**/*.md"))]


class Command(NamedTuple):
    """A session of nox and what follows `--`."""

    session: str
    arguments: list[str]


@cache
def tokens(page: Path) -> list[Token]:
    """Tokens of a page, with those of its lines in place of the lines."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block.children or [block])]


def blocks(page: Path, language: str) -> list[Token]:
    """Blocks of code in a language."""
    return [token for token in tokens(page) if token.type == "fence" and token.info == language]


def assigned(page: Path, name: str) -> list[ast.expr]:
    """What a page's blocks of Python assign to a name."""
    values = []
    for block in blocks(page, "python"):
        for statement in ast.parse(block.content).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
                values.append(statement.value)
    return values


def inline_code(page: Path) -> list[str]:
    """Code within sentences and cells."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def links(page: Path) -> list[str]:
    """Targets of links and images that are files or headings of the project."""
    named = (token.attrGet("href") or token.attrGet("src") for token in tokens(page))
    return [str(target) for target in named if target and "://" not in str(target)]


def headings(page: Path) -> set[str]:
    """Names by which links lead to the headings of a page, as GitHub makes them."""
    names = set()
    for heading in re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        words = re.sub(r"[^\w -]", "", heading.lower())
        names.add(words.replace(" ", "-"))
    return names


def commands(page: Path) -> list[Command]:
    """Commands of nox in blocks and sentences, where code that begins with `--` belongs to the command before."""
    written = list[Command]()
    for token in tokens(page):
        if token.type in ("fence", "code_inline"):
            written += commands_of_lines(token.content)
        if token.type == "code_inline" and token.content.startswith("--") and written:
            words = shlex.split(token.content.removeprefix("-- "))
            written.append(Command(written[-1].session, _values(words)))
    return written


def commands_of_lines(text: str) -> Iterator[Command]:
    """Commands of nox at the start of lines; what comes after them, two spaces apart, is a comment."""
    for line in re.findall(r"^ *nox -s (\S.*?)(?:  .*)?$", text, re.MULTILINE):
        names, _, words = line.partition(" -- ")
        arguments = shlex.split(words, comments=True)
        for name in shlex.split(names, comments=True):
            session, _, _ = name.partition("(")
            yield Command(session, _values(arguments))


def _values(arguments: list[str]) -> list[str]:
    """Arguments with a number in place of N, and a folder of results in place of FOLDER."""
    values = {"N": "1", "FOLDER": "results/<machine>"}
    return [values.get(argument, argument) for argument in arguments]


def sessions() -> list[str]:
    """Names of the sessions in noxfile.py, in its order."""
    return list(registry.get())
