"""What the project's pages contain: blocks of code, commands, links and headings."""

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _pytest.mark.expression import Expression
from markdown_it import MarkdownIt
from markdown_it.token import Token

import impls
from suite.shared.files import ROOT

#: Pages that people write; those of results are made from CSV files.
WRITTEN = [ROOT / "README.md", *sorted(ROOT.glob("impls/**/*.md")), *sorted(ROOT.glob("suite/**/*.md"))]
PAGES = [*WRITTEN, *sorted(ROOT.glob("results/**/*.md"))]


README, USAGE, IMPLS = ROOT / "README.md", ROOT / "impls" / "USAGE.md", ROOT / "impls" / "README.md"
CARD, MEASURE = ROOT / "impls" / "batched_cuda" / "README.md", ROOT / "suite" / "measure" / "README.md"
CHECKS, RESULTS = ROOT / "suite" / "checks" / "README.md", ROOT / "results" / "README.md"


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


@cache
def text(page: Path) -> str:
    """A page with single spaces."""
    return " ".join(page.read_text(encoding="utf-8").split())


def said(page: Path, pattern: str) -> tuple[str, ...]:
    """What is in the groups of a pattern, which the page with single spaces has once."""
    matches = list(re.finditer(pattern, text(page)))
    assert len(matches) == 1, f"{name_of(page)} has {len(matches)} times what it should have once: {pattern}"
    return matches[0].groups()


def table(page: Path, header: str) -> list[list[str]]:
    """The cells of each row of the table whose first line begins with that."""
    first = f"\n| {header} |".replace("|  |", "| |")
    _, _, after_header = page.read_text(encoding="utf-8").partition(first)
    rest, _, _ = after_header.partition("\n\n")
    rows = rest.splitlines()[2:]
    assert rows, f"{name_of(page)} has no table that begins with {header}"
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]


def codes(cell: str) -> list[str]:
    """Code within a cell or a sentence."""
    return re.findall("`(.*?)`", cell)


def evaluated(formula: str, sizes: Mapping[str, int]) -> Any:
    """The value of a count such as `4H(I + H)`, or of the shape `[4, H, I]`."""
    return eval(re.sub(r"(?<=\w) ?(?=[A-Z(])", "*", formula), dict(sizes))


def word(number: float) -> str:
    """A whole number in words."""
    return NUMBERS[int(number)]


def name_of(page: Path) -> str:
    """The path of a page in the project."""
    return str(page.relative_to(ROOT))


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


#: Numbers in words.
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
#: The session of options that stand before the first command of a page.
SESSION = {MEASURE: "bench", CHECKS: "verify"}


def commands(page: Path) -> list[Command]:
    """Commands of nox in blocks and sentences, where code that begins with `--` belongs to the command before."""
    written = list[Command]()
    for token in tokens(page):
        if token.type in ("fence", "code_inline"):
            written += commands_of_lines(token.content)
        if token.type == "code_inline" and token.content.startswith("--"):
            session = written[-1].session if written else SESSION[page]
            words = shlex.split(token.content.removeprefix("-- "))
            written.append(Command(session, _values(words)))
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


def check_markers(expression: str, config: pytest.Config) -> None:
    """Raise AssertionError or SyntaxError unless an expression after -m names markers that tests have, with a value."""
    registered = {re.split(r"[(:]", line)[0] for line in config.getini("markers")}

    def has(name: str, /, **values: Any) -> bool:
        assert name in registered, name
        assert name != "impl" or values["name"] in impls.names(), values
        return True

    if expression:
        Expression.compile(expression).evaluate(has)


def code_of(page: Path) -> str:
    """All code of a page, in blocks and within text."""
    return "\n".join(token.content for token in tokens(page) if token.type in ("fence", "code_inline"))


def pages_where(holds: Callable[[Path], object], pages: Sequence[Path]) -> list[Path]:
    """The pages of which something holds; ValueError if there is none, as tests of no page show nothing."""
    found = [page for page in pages if holds(page)]
    if not found:
        raise ValueError("pages: expected one of which it holds, got none")
    return found
