"""What the project's pages show works: blocks of Python run, commands are accepted, links lead somewhere."""

import argparse
import ast
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

import impls
from impls import HyperLSTM
from suite import bench, bench_compare, report
from suite.comparison.tensors import STATE_NAMES, parameter
from suite.package.documents import (
    PAGES,
    WRITTEN,
    Command,
    assigned,
    blocks,
    commands,
    commands_of_lines,
    headings,
    inline_code,
    links,
    sessions,
)
from suite.shared.files import ROOT

#: Sessions whose arguments go to pytest, and the parsers of the others that take any.
PYTEST = {"verify", "selftest", "cuda", "lowest", "export", "kernels"}
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "bench": bench.parser,
    "compare": bench_compare.parser,
    "report": report.parser,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `hyperlstm` be the package, as where it is installed."""
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "impls":
            monkeypatch.setitem(sys.modules, name.replace("impls", "hyperlstm", 1), module)


@cache
def run_blocks(page: Path) -> dict[str, Any]:
    """Run a page's blocks of Python one after the other, and return the names that they define."""
    defined: dict[str, Any] = {"__name__": f"blocks_of_{page.parent.name}_{page.stem}"}
    for block in blocks(page, "python"):
        assert block.map
        lines = "\n" * (block.map[0] + 1)  # so that an error shows the page's line
        exec(compile(lines + block.content, str(page), "exec"), defined)
    return defined


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "python")], ids=name_of)
def test_python_runs(page: Path) -> None:
    run_blocks(page)


@pytest.mark.usefixtures("_installed")
def test_comments_say_the_axes_of_results_in_their_order() -> None:
    """The first example of README.md has an input [T, B, I]."""
    (example, *_) = [block.content for block in blocks(ROOT / "README.md", "python")]
    sizes = dict(zip("TBI", map(int, re.findall(r"randn\((\d+), (\d+), (\d+)\)", example)[0]), strict=True))
    defined = run_blocks(ROOT / "README.md")
    sizes["hidden_size"] = defined["model"].hidden_size
    assert len({*sizes.values()}) == len(sizes), "expected sizes that differ"
    (axes,) = re.findall(r"# out \[([\w, ]+)\]", example)
    assert tuple(sizes[axis] for axis in axes.split(", ")) == defined["out"].shape


@pytest.mark.usefixtures("_installed")
def test_the_training_loop_steps_with_every_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gradient = set[int]()

    def step(optimizer: torch.optim.Adam) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with_gradient.update(id(p) for p in parameters if p.grad is not None)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    model = run_blocks.__wrapped__(ROOT / "README.md")["model"]
    assert [name for name, p in model.named_parameters() if id(p) not in with_gradient] == []


@pytest.mark.usefixtures("_installed")
def test_weights_decay_and_biases_and_norms_do_not() -> None:
    """Each parameter is in one group of the optimizer."""
    model = HyperLSTM(50, 64, 16, 4, 1, layer_norm=True)
    defined = run_blocks(ROOT / "impls" / "USAGE.md") | {"model": model}
    for name in ("decayed", "not_decayed", "optimizer"):
        (value,) = assigned(ROOT / "impls" / "USAGE.md", name)
        defined[name] = eval(compile(ast.Expression(value), "<USAGE.md>", "eval"), defined)
    groups = defined["optimizer"].param_groups
    decays = [(id(p), group["weight_decay"] > 0) for group in groups for p in group["params"]]
    expected = []
    for name, p in model.named_parameters():
        role = parameter(name).role
        assert role is not None
        expected.append((id(p), not (role.of_bias or role.of_norm)))
    assert sorted(decays) == sorted(expected)


@pytest.mark.usefixtures("_installed")
def test_a_registered_parametrization_keeps_the_weight() -> None:
    """Else a trained model is damaged where it is registered."""
    weight = torch.randn(4, 6, 5)
    norm = run_blocks(ROOT / "impls" / "USAGE.md")["NormOfRows"](weight)
    torch.testing.assert_close(norm(norm.right_inverse(weight)), weight)


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "python")], ids=name_of)
def test_states_are_unpacked_in_their_order(page: Path) -> None:
    """Two of them have the same shape where H = S, and any may be plotted."""
    written = [ast.parse(block.content) for block in blocks(page, "python")]
    tuples = [node for tree in written for node in ast.walk(tree) if isinstance(node, ast.Tuple)]
    names = [tuple(part.id for part in node.elts if isinstance(part, ast.Name)) for node in tuples]
    assert all(names_of == STATE_NAMES for names_of in names if {*names_of} == {*STATE_NAMES})


@pytest.mark.usefixtures("_installed")
def test_the_bidirectional_model_reads_each_sequence_from_both_ends() -> None:
    torch.manual_seed(0)
    H = 6
    model = run_blocks(ROOT / "impls" / "USAGE.md")["Bidirectional"](3, H, 4, 2, 1)
    sequences = [torch.randn(length, 3) for length in (2, 5, 1, 5)]
    packed = unpack_sequence(model(pack_sequence(sequences, enforce_sorted=False))[0])
    for x, out in zip(sequences, packed, strict=True):
        torch.testing.assert_close(out, model(x[:, None])[0][:, 0])
        torch.testing.assert_close(out[:1, :H], model(x[:1, None])[0][:, 0, :H])
        torch.testing.assert_close(out[-1:, H:], model(x[-1:, None])[0][:, 0, H:])


def test_torchs_lstm_refuses_an_edit_of_its_output_in_float32_alone() -> None:
    """As impls/README.md and USAGE.md say; with oneDNN, which computes it in float32."""

    def edit(dtype: torch.dtype, *, packed: bool) -> None:
        x = torch.randn(2, 1, 3, dtype=dtype)
        out = torch.nn.LSTM(3, 4, dtype=dtype)(pack_sequence([x[:, 0], x[:1, 0]]) if packed else x)[0]
        (out.data if packed else out).mul_(2).sum().backward()

    edit(torch.float64, packed=False)
    edit(torch.float32, packed=True)
    if torch.backends.mkldnn.is_available():
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            edit(torch.float32, packed=False)


def accept(command: Command, config: pytest.Config) -> None:
    """Raise what a command's parser raises; AssertionError if there is no such session, option or folder of results."""
    assert command.session in sessions()
    for option, folder in pairwise(command.arguments):
        if option == "--check":
            assert any(ROOT.glob(f"{folder.replace('<machine>', '*')}/bench.csv")), folder
    folders = [word.partition("/")[0] for word in command.arguments]
    placeholders = [folder for folder in folders if folder in ("OLD", "NEW")]
    assert placeholders in ([], ["OLD", "NEW"]), "what is regarded as the baseline comes first"
    if command.session in PARSERS:
        PARSERS[command.session]().parse_args(command.arguments)
    elif command.session in PYTEST:
        known, unknown = config._parser.parse_known_and_unknown_args(command.arguments)
        assert unknown == []
        assert [path for path in known.file_or_dir if not (ROOT / path).exists()] == []
    else:
        assert command.arguments == [], f"{command.session}: no parser is known for its arguments"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_are_accepted(page: Path, pytestconfig: pytest.Config) -> None:
    for command in commands(page):
        accept(command, pytestconfig)


@pytest.mark.parametrize("module", [bench, bench_compare, report], ids=lambda module: str(module.__name__))
def test_commands_of_manuals_are_accepted(module: Any, pytestconfig: pytest.Config) -> None:
    for command in commands_of_lines(module.__doc__):
        accept(command, pytestconfig)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


#: Files of the project, and those that users or commands make.
FILES = [
    str(path.relative_to(ROOT)) for folder in ("impls", "suite", "results") for path in ROOT.glob(f"{folder}/**/*.*")
]
MADE = ("path/to/mine.py", "mine.toml", "results/report.html", "impls/<name>.py", "sizes.csv", "sizes.md")
SUFFIXES = (".py", ".h", ".cpp", ".md", ".toml", ".csv", ".html")


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_in_code_exist(page: Path) -> None:
    """By their whole path, or its end."""
    names = {word for code in inline_code(page) for word in code.split() if word.endswith(SUFFIXES)}
    exist = {name for name in names if any(f"/{file}".endswith(f"/{name}") for file in FILES)}
    assert {name for name in names - exist if not (ROOT / name).exists()} <= {*MADE}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_dotted_names_exist(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(impls|hyperlstm|suite)(\.[a-zA-Z_]\w*)+", code) and not code.endswith(SUFFIXES):
            pkgutil.resolve_name(re.sub(r"^hyperlstm", "impls", code))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_calls_of_public_functions_have_their_parameters(page: Path) -> None:
    for code in inline_code(page):
        name = code.partition("(")[0]
        if name in impls.__all__ and re.fullmatch(r"\w+\([\w, ]+\)", code):
            named = re.findall(r"\w+", code.lower())[1:]
            assert named == list(inspect.signature(getattr(impls, name)).parameters)[: len(named)], code


#: Environment variables that other programs read.
OTHERS = {"UV_TORCH_BACKEND"}
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for path in [ROOT / "noxfile.py", *ROOT.glob("impls/**/*.*"), *ROOT.glob("suite/**/*.py")]
    if path.suffix in (".py", ".h", ".cpp")
)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_environment_variables_are_read(page: Path) -> None:
    """Or at least named by some code, as constants of the code are too."""
    words = {word for code in inline_code(page) for word in re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", code)}
    assert {word for word in words if not re.search(rf"\b{word}\b", SOURCES)} <= OTHERS


def test_the_readme_names_sessions_in_the_order_of_the_list() -> None:
    table = re.findall(r"^\| `nox -s (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert table
    assert table == sorted(table, key=sessions().index)


def test_the_readme_names_what_is_public() -> None:
    code = inline_code(ROOT / "README.md")
    assert [name for name in impls.__all__ if not any(one.startswith(name) for one in code)] == []
