"""Links of the project's pages lead somewhere, their commands are accepted, and their Python runs."""

import re
import shlex
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mktestdocs import check_md_file
from torch import Tensor

import noxfile
from impls import HyperLSTM
from impls.registry import ORACLE
from suite import bench, bench_compare, report
from suite.cases.case import Case
from suite.comparison.draws import implementation
from suite.comparison.tolerance import compare
from suite.shared.files import ROOT

PAGES = [ROOT / "README.md", *(page for name in ("impls", "suite", "results") for page in ROOT.glob(f"{name}/**/*.md"))]
#: Parsers of the sessions whose arguments are not pytest's.
PARSERS = {"bench": bench.parser, "compare": bench_compare.parser, "report": report.parser}


def name_of(page: Path) -> str:
    """The path of a page in the project."""
    return str(page.relative_to(ROOT))


@cache
def tokens(page: Path) -> list[Token]:
    """Tokens of a page: of blocks, and of the text in them."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block.children or [block])]


def headings(page: Path) -> set[str]:
    """Names by which links lead to the headings of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for token in tokens(page):
        link = str(token.attrGet("href") or token.attrGet("src") or "")
        if not link or "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def commands(page: Path) -> list[str]:
    """Commands of nox in blocks, cells and sentences; two spaces are before a comment."""
    code = (token.content for token in tokens(page) if token.type in ("fence", "code_inline"))
    return [command for text in code for command in re.findall(r"^ *nox -s (\S.*?)(?:  .*)?$", text, re.MULTILINE)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_are_accepted(page: Path, pytestconfig: pytest.Config) -> None:
    for command in commands(page):
        names, _, words = command.partition(" -- ")
        arguments = ["1" if word == "N" else word for word in shlex.split(words, comments=True)]
        for name in shlex.split(names, comments=True):
            session = name.partition("(")[0]
            assert hasattr(noxfile, session), command
            if session in PARSERS:
                PARSERS[session]().parse_args(arguments)
            else:
                _, unknown = pytestconfig._parser.parse_known_and_unknown_args(arguments)
                assert not unknown, command


def blocks(page: Path) -> list[str]:
    """Blocks of Python."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `hyperlstm` is the package, as where it is installed."""
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "impls":
            monkeypatch.setitem(sys.modules, name.replace("impls", "hyperlstm", 1), module)
    check_md_file(page, memory=True)


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norm"])
def test_the_step_as_printed_is_the_oracle(layer_norm: bool) -> None:
    (block,) = [block for block in blocks(ROOT / "impls" / "README.md") if "def step(" in block]
    exec(block, printed := dict[str, Any]())

    def build(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
        model = implementation(ORACLE)(case, dtype, device)

        def forward(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            step = torch.func.vmap(partial(printed["step"], model.layers[0]))  # over the batch
            out, state = [], tuple(part[0] for part in state)
            for x_t in x:
                state = step(x_t, *state)
                out.append(state[0])
            return torch.stack(out), tuple(part[None] for part in state)

        model.forward = forward  # type: ignore[method-assign, assignment]
        return model

    case = Case(T=7, B=3, I=4, H=6, S=5, Z=2, layer_norm=layer_norm, state="stacked")
    worst = compare(build, case, torch.float64, torch.device("cpu"))[0]
    assert not worst.wrong, worst
