"""`impl="auto"` takes the preferred implementation that can run, and the registry says why others cannot."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from impls import HyperLSTM, Impl, names, register, registry, why_unavailable
from impls.definition import Inputs
from suite.checks.module.runs import F32

CPU = torch.device("cpu")


def preferred(device: torch.device) -> str:
    """The available implementation with the highest preference that is not experimental."""
    able = [row for row in registry.IMPLS if why_unavailable(row.name, device) is None and not row.experimental]
    return max(able, key=lambda row: row.preference).name


@pytest.mark.parametrize("step", [1, -1], ids=["as-listed", "reversed"])
def test_auto_is_the_preferred_available_one(step: int, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "IMPLS", registry.IMPLS[::step])
    model = HyperLSTM(4, 6, 5, 2, 2, layer_norm=True, device=device)
    assert f"4, 6, 5, 2, 2, layer_norm=True, impl=auto ({preferred(device)}" in repr(model)
    assert model.impl == "auto"
    model.impl = "naive"
    assert "impl=naive" in repr(model)
    model.impl = "auto"
    assert "impl=auto (none available)" in repr(model.to(torch.float8_e4m3fn))


def test_a_compiled_model_runs_what_auto_takes() -> None:
    """As one operator: what the compiler would make of another implementation takes twice as long."""
    chosen = preferred(CPU)
    if not registry.find(chosen).hand_written:
        pytest.skip(f"{chosen} is no operator")
    targets = list[str]()

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    model = HyperLSTM(4, 6, 5, 2, 2)
    torch.compile(model, backend=backend, fullgraph=True)(torch.randn(6, 3, 4))
    assert targets.count(f"hyperlstm.{chosen}.default") == 2


#: A row that "auto" would prefer, and what is wrong with it, by name.
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "elsewhere": ({"devices": ("cuda",)}, "cuda"),
    "float64": ({"dtypes": (torch.float64,)}, "float32"),
    "no_norm": ({"options": frozenset({"recurrent_dropout"})}, "layer_norm"),
}


@pytest.mark.parametrize("added", CHANGES)
def test_auto_skips_an_unavailable_implementation(added: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (changes, wrong), best = CHANGES[added], preferred(CPU)
    row = replace(registry.find("batched"), name=added, preference=99, **changes)
    able = ", ".join(row.name for row in registry.IMPLS if "cpu" in row.devices and torch.float32 in row.dtypes)
    without_norm = replace(registry.find("batched"), name="without_norm", preference=0, options=frozenset())
    monkeypatch.setattr(registry, "IMPLS", (*registry.IMPLS, without_norm, row))
    model = HyperLSTM(4, 6, 5, 2, 2, layer_norm=True)
    assert f"auto ({best})" in repr(model)
    assert model(torch.zeros(6, 3, 4))[0].shape == (6, 3, 6)
    reason = str(why_unavailable(added, "cpu", options=iter(["layer_norm"])))
    assert re.match(f"{added} .*{wrong}", reason)
    model.impl = added
    with pytest.raises(RuntimeError, match=f": {reason} .*: {able}\\.$"):
        model(torch.zeros(6, 3, 4))


@pytest.fixture
def _card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of compute capability 9.0, as far as torch says, on which Triton's driver works."""
    answers = {"is_available": True, "get_device_capability": (9, 0), "get_device_name": "H100"}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(registry, "_probed", lambda *_: None)
    caches: list[Any] = [registry.why_no_code, registry._mention_experimental, registry._warn_of_experimental]
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("_card")
def test_a_gpu_that_torch_does_not_see_or_that_is_not_nvidias_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "NVIDIA" in str(why_unavailable("batched_cuda", "cuda"))
    assert why_unavailable("batched", "cuda") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("batched", "batched_cuda"):
        assert "CUDA" in str(why_unavailable(name, "cuda"))


@pytest.mark.usefixtures("_card")
@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 0), ["sm_75", "sm_80", "sm_120"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((8, 9), ["sm_80", "sm_86"], True),
        ((12, 0), ["sm_80", "compute_90"], True),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_a_reason(
    capability: tuple[int, int], built: list[str], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a V100 under a torch for CUDA 13, where each call would end in "no kernel image is available"."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    reason = why_unavailable("batched", "cuda")
    assert reason is None if runs else re.search(f"{', '.join(built)}, .*H100", str(reason))


@pytest.mark.usefixtures("_card")
def test_auto_takes_deferred_on_a_gpu_and_says_once_that_there_is_another(recwarn: pytest.WarningsRecorder) -> None:
    cuda = torch.device("cuda", 0)
    assert registry.resolve("auto", cuda, torch.float64).name == "deferred"
    assert not recwarn.list
    for _ in range(2):
        assert registry.resolve("auto", cuda, F32, ["layer_norm"]).name == "deferred"
    (warning,) = recwarn.list
    assert "impl='batched_cuda'" in str(warning.message)
    assert warning.filename == __file__


def test_auto_skips_an_experimental_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(row, experimental=row.name != "row_scaled") for row in registry.IMPLS]
    monkeypatch.setattr(registry, "IMPLS", tuple(rows))
    model = HyperLSTM(4, 6, 5, 2, 2)
    assert "impl=auto (row_scaled)" in repr(model)
    model.impl = "batched"
    assert "impl=batched (experimental)" in repr(model)
    assert model(torch.zeros(6, 3, 4))[0].shape == (6, 3, 6)


@pytest.mark.filterwarnings("error")
def test_auto_warns_of_no_dtype_that_a_build_would_not_bring() -> None:
    registry._warn_of_fallback.cache_clear()  # type: ignore[attr-defined]
    model = HyperLSTM(4, 6, 5, 2, 2, dtype=torch.float16)
    assert model(torch.zeros(6, 3, 4, dtype=torch.float16))[0].dtype == torch.float16


@pytest.mark.usefixtures("_withdrawn")
def test_auto_prefers_none_that_a_user_registers() -> None:
    """And a name may be registered again, as by a cell of a notebook that runs twice."""
    register(Impl("other", preference=9, multiples={"H": 8}), run)
    assert registry.resolve("auto", CPU, F32, sizes={"H": 8}).name == "other"
    with pytest.raises(RuntimeError, match=r"other .*hidden_size .*8.*4\."):
        HyperLSTM(3, 4, 2, 1, 1, impl="other")(torch.zeros(1, 1, 3))
    register(Impl("other"), run)
    assert HyperLSTM(3, 4, 2, 1, 1, impl="other").impl == names()[-1] == "other"
    assert registry.resolve("auto", CPU, F32).name != "other"


GOOD = Impl("other")


def run(p: object, inputs: Inputs) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("impl", "function", "error", "message"),
    [
        (replace(GOOD, name="batched"), run, ValueError, "^impl.name: expected .*; got 'batched'"),
        (replace(GOOD, name="auto"), run, ValueError, "^impl.name: expected .*; got 'auto'"),
        (replace(GOOD, options=frozenset({"proj"})), run, ValueError, "^impl.options: expected .*; got proj"),
        (replace(GOOD, dtypes=(torch.int8,)), run, ValueError, "^impl.dtypes: expected .*got torch.int8"),
        (replace(GOOD, dtypes=("float32",)), run, ValueError, "^impl.dtypes: expected .*got 'float32'"),  # type: ignore[arg-type]
        (replace(GOOD, devices=("cuda:0",)), run, ValueError, "^impl.devices: expected .*got 'cuda:0'"),
        (replace(GOOD, multiples={"T": 8}), run, ValueError, "^impl.multiples: expected .*'T'"),
        (replace(GOOD, probe=True), run, ValueError, "^impl: expected .*probe"),
        (replace(GOOD, interpreted_on=("cpu",)), run, ValueError, "^impl: expected .*interpreted_on"),
        (replace(GOOD, builds_weights=True), run, ValueError, "^impl: expected .*builds_weights"),
        (GOOD, None, TypeError, "^register: expected .*, got .*None"),
        ("other", run, TypeError, "^register: expected .*, got 'other'"),
    ],
)  # fmt: skip
def test_a_bad_registration_raises_and_adds_nothing(
    impl: Any, function: Any, error: type[Exception], message: str
) -> None:
    before = [*registry.IMPLS]
    with pytest.raises(error, match=message):
        register(impl, function)
    assert before == registry.IMPLS
