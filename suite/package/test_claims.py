"""What tables and sentences of the pages say, read from the page, is what the code does."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import impls
from impls import HyperLSTM, convert, proof, why_unavailable
from impls.batched_cpu import _residuals
from impls.definition import hidden_weight, shapes
from impls.gradient.operator import allocate_states
from impls.registry import IMPLS as ROWS
from impls.registry import Impl
from suite.candidates import submission
from suite.candidates.catalogue import candidates
from suite.cases.case import Case
from suite.cases.spelling import MEDIUM, parse
from suite.cases.verification import VERIFY
from suite.cases.workloads import WORKLOADS, Pass
from suite.checks.cost.counted import Operators
from suite.checks.faults.planting import listed
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import plain
from suite.comparison.tensors import Argument, C, Gradient, Kind, X
from suite.measure.work import Training
from suite.package.documents import (
    CARD,
    IMPLS,
    MEASURE,
    README,
    WRITTEN,
    codes,
    evaluated,
    name_of,
    pages_where,
    said,
    table,
    text,
    word,
)
from suite.pages import bench_tables
from suite.shared.files import ROOT

PACKAGE = ROOT / "impls"
CPU = torch.device("cpu")
#: Sizes of which no two are alike.
SIZES = {"T": 2, "B": 10, "I": 7, "H": 8, "S": 6, "Z": 5, "L": 3}


#: The number of a paper in arXiv.
PAPER = re.compile(r"\b\d{4}\.\d{5}\b")


@pytest.mark.parametrize("page", pages_where(lambda page: PAPER.search(text(page)), WRITTEN), ids=name_of)
def test_papers_are_those_that_the_code_names(page: Path) -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.glob("*.py"))
    assert {*PAPER.findall(text(page))} <= {*PAPER.findall(sources)}


def letters() -> dict[str, str]:
    """The argument of `HyperLSTM` that a letter stands for."""
    arguments = dict[str, str]()
    for row in table(IMPLS, "letter"):
        for letter, meaning in (row[:2], row[3:]):
            if meaning.startswith("`"):
                (arguments[letter.strip("`")],) = codes(meaning)
    return arguments


def test_letters_stand_for_the_arguments_that_make_these_shapes() -> None:
    arguments = letters()
    assert arguments.keys() == {"H", "S", "Z", "L"}
    sizes: Any = {argument: SIZES[letter] for letter, argument in arguments.items()}
    model = HyperLSTM(SIZES["I"], **sizes)
    assert len(model.layers) == SIZES["L"]
    for layer, features in zip(model.layers, (SIZES["I"], SIZES["H"], SIZES["H"]), strict=True):
        expected = shapes(features, SIZES["H"], SIZES["S"], SIZES["Z"], layer_norm=False)
        assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == expected
    of_readme = said(README, r"H units, (\w) units of the smaller LSTM, (\w) numbers of an embedding, and (\w) layers")
    assert [arguments[letter] for letter in of_readme] == ["hyper_size", "n_z", "n_layers"]


def preferred(among: Callable[[Impl], bool]) -> str:
    return max(filter(among, ROWS), key=lambda impl: impl.preference).name


def test_auto_runs_what_the_readme_says() -> None:
    """On a CPU and on a GPU, before it has verified what is experimental and afterwards, and where it is recorded."""
    on_cpu, on_gpu, verified, recorded = said(
        README,
        r"a model on a CPU runs `(\w+)`\. On a GPU it runs `(\w+)`, until .*? then it runs \[`(\w+)`\]\S* "
        r"Inside `torch\.func` and for an export to ONNX or TorchScript it runs `(\w+)`;",
    )
    assert on_cpu == preferred(lambda impl: "cpu" in impl.devices)
    assert on_gpu == preferred(lambda impl: "cuda" in impl.devices and not impl.experimental)
    assert verified == preferred(lambda impl: "cuda" in impl.devices)
    assert recorded == preferred(lambda impl: not impl.hand_written)
    (on_gpu,) = said(CARD, r'without a mark of your GPU, `impl="auto"` runs `(\w+)` there and warns')
    assert on_gpu == preferred(lambda impl: "cuda" in impl.devices and not impl.experimental)


#: A choice of an implementation, with its name.
SELECTED = re.compile(r'impl ?= ?"(\w+)"')


@pytest.mark.parametrize("page", pages_where(lambda page: SELECTED.search(text(page)), WRITTEN), ids=name_of)
def test_implementations_that_pages_select_exist(page: Path) -> None:
    for name in SELECTED.findall(text(page)):
        assert name in ("auto", *impls.names()), name


def test_what_runs_has_no_reason_against_it() -> None:
    (nothing,) = said(README, r"why an implementation does not run there; (.*?) if it does \|")
    assert str(why_unavailable("naive", "cpu", torch.float32)) == nothing


def test_state_dicts_are_converted_from_and_to_labml() -> None:
    *named, first, second = said(README, r"`convert\.(\w+)` and `convert\.(\w+)` convert state dicts (\w+) and (\w+)")
    assert named == [f"{first}_labml", f"{second}_labml"]
    assert all(callable(getattr(convert, name)) for name in named)


def test_these_take_packed_sequences_in_one_call() -> None:
    (named,) = said(IMPLS, r"on one such segment after another\. (.*?) take all tokens in one call")
    assert {*codes(named)} == {impl.name for impl in ROWS if impl.packed}


def imports(path: Path) -> Iterator[str]:
    """Names of the modules and packages of the project that a file, or the files of a folder, import from outside."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for file in files:
        depth = len(file.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                yield from (name.partition(".")[0] for name in names if name.partition(".")[0] != own)


def test_the_table_of_files_has_what_they_import() -> None:
    described = set[str]()
    for files, _, imported in table(IMPLS, "file"):
        named = [PACKAGE / name for name in codes(files)]
        described |= {path.name for path in named}
        assert {name for path in named for name in imports(path)} == {*codes(imported)}, files
    here = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert described == here - {"__init__.py"}


def test_a_call_passes_the_files_that_the_page_names() -> None:
    """Of a model whose library is there, so that nothing is built."""
    if reason := why_unavailable("batched_cpu", "cpu"):
        pytest.skip(reason)
    (module, of_implementation) = said(
        IMPLS, r"A call of the model passes (.*?) and the implementation; with `batched_cpu` these are (.*?), then"
    )
    model, sample = model_and_draw("batched_cpu", VERIFY[0], torch.float32, CPU)
    model(sample.x)
    passed = set[str]()

    def note(frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            passed.add(str(file.relative_to(PACKAGE)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        model(sample.x)
    finally:
        sys.setprofile(before)
    assert passed == {*codes(module), *codes(of_implementation)}


def test_operators_have_the_names_that_the_page_says() -> None:
    forward, backward = said(IMPLS, r"operators of a hand-written gradient are `(\S+)` and `(\S+)` whether")
    written = [impl for impl in ROWS if impl.hand_written and not (impl.triton and find_spec("triton") is None)]
    assert written
    for impl in written:
        assert callable(impl.run)  # which registers them
        for operator in (forward, backward):
            namespace, _, name = operator.replace("<name>", impl.name).partition("::")
            assert hasattr(getattr(torch.ops, namespace), name), operator


def test_the_general_form_builds_the_tensors_that_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for a sequence, and others at every step."""
    built, plain_einsum = list[tuple[int, ...]](), torch.einsum

    def einsum(*arguments: Any) -> torch.Tensor:
        result: torch.Tensor = plain_einsum(*arguments)
        built.append(tuple(result.shape))
        return result

    monkeypatch.setattr(torch, "einsum", einsum)
    sizes = {"I": 7, "H": 5, "Z": 3}
    B, S = 11, 2
    model = HyperLSTM(sizes["I"], sizes["H"], S, sizes["Z"], 1, impl="naive")
    counts = []
    for T in (1, 4):
        built.clear()
        model(torch.randn(T, B, sizes["I"]))
        counts.append([*built])
    named = said(IMPLS, r"It builds `(\[.*?\])` and `(\[.*?\])` tensors once per sequence")
    expected = [tuple(evaluated(shape, sizes)) for shape in named]
    at_start, at_step = said(
        IMPLS, r"builds weight tensors of `(\S+ \+ \S+)` elements and, at every step, `(\S+ \+ \S+)` elements per row"
    )
    for T, shapes_of_call in zip((1, 4), counts, strict=True):
        once = [shape for shape in shapes_of_call if B not in shape]
        of_steps = [shape for shape in shapes_of_call if shape[0] == B and len(shape) == 3]
        assert {*once} == {*expected}
        assert sum(torch.Size(shape).numel() for shape in once) == evaluated(at_start, sizes)
        assert sum(torch.Size(shape).numel() for shape in of_steps) == T * B * evaluated(at_step, sizes)


def layer_of(sizes: dict[str, int]) -> Any:
    model = HyperLSTM(sizes["I"], sizes["H"], sizes["S"], sizes["Z"], 1, dtype=torch.float64)
    layer: Any = model.layers[0]
    return layer._params()


def test_products_with_h_are_one_in_the_order_that_the_page_says() -> None:
    shape, first = said(IMPLS, r"for h to `(\[.*?\])` and calls their product `uh`: (\w), followed by the hyper LSTM's")
    p = layer_of(SIZES)
    weight = hidden_weight(p)
    assert [*weight.shape] == evaluated(shape, SIZES)
    assert first == "u"
    assert weight[: 4 * SIZES["H"]].equal(p.weight_h.flatten(0, 1))


def test_a_forward_pass_saves_as_many_numbers_as_the_page_says() -> None:
    (states,) = said(IMPLS, r"`out`, `c`, `h_hat` and `c_hat`, `(.*?)` numbers per step and row")
    (residuals,) = said(IMPLS, r"\*residuals\*, `(.*?)` numbers per step and row")
    p = layer_of(SIZES)
    x = torch.empty(1, 1, SIZES["I"], dtype=torch.float64)
    others = sum(state.numel() for state in allocate_states(p, x, (1, 1)))
    assert SIZES["H"] + others == evaluated(states, SIZES)
    assert _residuals(SIZES["I"], SIZES["H"], SIZES["S"]) == evaluated(residuals, SIZES)


def test_z_and_d_could_be_one_matrix_of_the_size_that_the_page_says() -> None:
    matrix, now, then = said(
        IMPLS, r"could be one matrix `(\[.*?\])`, which would replace `(\w+)` multiply-adds by `(\w+)`"
    )
    p = layer_of(SIZES)
    product = (p.d_weight @ p.z_weight).flatten(0, 2)
    assert [*product.shape] == evaluated(matrix, SIZES)
    assert (p.d_weight.numel(), product.numel()) == (evaluated(now, SIZES), evaluated(then, SIZES))


def test_deferred_loops_back_with_as_many_products_as_the_page_says() -> None:
    def products(T: int) -> int:
        case = Case(T=T, B=2, I=3, H=4, S=3, Z=2)
        model, sample = model_and_draw("deferred", case, torch.float64, CPU)
        with torch.no_grad(), Operators() as forward:
            model(sample.x)
        with Operators() as train:
            plain(model, case, sample)
        return train.products - forward.products

    (count,) = said(IMPLS, r"loops back over the steps with (\w+) products each")
    assert word(products(5) - products(4)) == count


def test_the_column_that_the_page_names_is_one_of_the_benchmark() -> None:
    (heading,) = said(IMPLS, r"the benchmark's column \*(.*?)\* is its ratio to the count of an LSTM")
    assert f'Column("{heading}"' in inspect.getsource(bench_tables)


def test_an_option_is_declared_in_the_field_that_the_page_names() -> None:
    (field,) = said(IMPLS, r"and `(\w+)` in their rows of `registry\.py`")
    assert {"layer_norm", "recurrent_dropout"} <= getattr(Impl(""), field)


def test_the_change_of_parameters_takes_what_the_code_says() -> None:
    figures = said(MEASURE, r"(\d+) µs on \*(\w+)\*, where a step takes (\d+) ms")
    pattern = r"(\d+) microseconds on the workload (\w+), where a step takes (\d+) ms"
    (of_code,) = re.findall(pattern, " ".join(str(Training.__doc__).split()))
    assert figures == of_code


def test_results_of_a_file_go_where_the_page_says(tmp_path: Path) -> None:
    (file,) = said(IMPLS, r"As a file `(\S+)`, in any folder")
    (folder,) = said(IMPLS, r"Results go to `(\S+)` beside the file")
    assert submission.results_of(None, [tmp_path / file]) == tmp_path / folder


def test_a_list_of_faults_is_written_as_the_page_says(tmp_path: Path) -> None:
    file, line, row, *others = said(
        IMPLS,
        r"`(\S+)` beside it may list faults to plant in it, below a line such as `(.*?)`, each as `(.*?)` with the "
        r"output that it damages, or with `(.*?)`, `(.*?)` or `(.*?)`; verification",
    )
    rows = [row.replace('"name"', f'"{number}"') for number in range(1 + len(others))]
    for number, other in enumerate(others, start=1):
        rows[number] = rows[number].replace('output = "out"', other)
    (tmp_path / file).write_text("\n".join([line, *rows]))
    faults = listed(tmp_path / file)
    of_gradients = [Gradient(Argument(Kind.PARAMETER, name="bias")), Gradient(C), Gradient(X)]
    assert [fault.shows for fault in faults] == ["out", *of_gradients]
    assert {fault.kind for fault in faults} == {line.strip("[]")}


def workloads_with(field: str) -> set[str]:
    return {name for name, workload in WORKLOADS.items() if getattr(workload, field)}


def test_what_takes_long_is_timed_where_the_page_says() -> None:
    (slow,) = said(MEASURE, r"is timed on medium alone: (.*?), without layer norm")
    of_page = codes(slow)
    assert of_page == [one.name for one in candidates() if one.literal or (one.compiles_each_size and one.of_torch)]
    of_others = {one.name for one in candidates() if one.of_others}
    assert {name.lower() for name in said(MEASURE, r"without a GPU (\w+) and (\w+)\.")} == of_others
    everywhere, *on_a_cpu, of_headline = said(
        MEASURE,
        r"\*([\w-]+)\*, and without a GPU \*([\w-]+)\* and \*([\w-]+)\*, are timed of what `auto` takes and of "
        r"`torch\.nn\.LSTM`, without a GPU \*([\w-]+)\* also of what its headline compares",
    )
    fastest_alone = {name: workload.time_fastest_alone for name, workload in WORKLOADS.items()}
    assert {name for name, devices in fastest_alone.items() if "cuda" in devices} == {everywhere}
    assert {name for name, devices in fastest_alone.items() if "cpu" in devices} == {everywhere, *on_a_cpu}
    of_headlines = {name: workload.time_headline_alone for name, workload in WORKLOADS.items()}
    assert {name: devices for name, devices in of_headlines.items() if devices} == {of_headline: ("cpu",)}
    (step,) = said(MEASURE, r"\*([\w-]+)\* forward alone")
    by_default = {name for name, workload in WORKLOADS.items() if workload.by_default}
    assert {name for name in by_default if WORKLOADS[name].passes == (Pass.FORWARD,)} == {step}
    (bfloat16,) = said(MEASURE, r"On (\w+) alone is also bfloat16")
    for field in ("time_bfloat16", "time_compiled", "time_others", "time_reference_forms"):
        assert workloads_with(field) == {bfloat16}


def test_sizes_are_spelled_and_filled_in_as_the_page_says() -> None:
    spelled, workload = said(
        MEASURE, r"print, such as `(\S+)`, in any order; what is left out is as in (\w+)\. They are timed"
    )
    case = Case(50, 24, 88, 512, 64, 8, 2, layer_norm=True, recurrent_dropout=0.1)
    assert sorted(spelled.split("-")) == sorted(case.id.split("-"))
    assert parse(spelled) == parse("-".join(reversed(spelled.split("-")))) == case
    assert WORKLOADS[workload].case == MEDIUM == parse(f"H{MEDIUM.H}")
    (forward,) = said(MEASURE, r"forward alone with `(\w+)`\.")
    assert not parse(forward).training


def test_a_mark_is_in_the_folder_that_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = said(CARD, r"If the cache \(`(.*?)`\) cannot be written")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(proof, "conditions", lambda _: {"card": "some card"})
    assert proof.path("batched_cuda", torch.device("cuda")).parent == Path(folder).expanduser()


def test_units_are_padded_to_the_multiple_that_the_page_says() -> None:
    pytest.importorskip("triton")
    from impls.batched_cuda.layout import padded

    (multiple,) = said(IMPLS, r"Units are padded to multiples of (\d+)\.")
    of_page = int(multiple)
    assert [padded(units) for units in (1, of_page, of_page + 1)] == [of_page, of_page, 2 * of_page]
