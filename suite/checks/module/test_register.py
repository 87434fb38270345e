"""A registered implementation works as ours do: that of impls/README.md, with a gradient by hand, and others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from impls import Impl, names, register, registry, why_unavailable
from impls.definition import Inputs
from suite.checks.module.capabilities import CAPABILITIES
from suite.checks.module.runs import CASE
from suite.conftest import withdraw_with
from suite.shared import submission
from suite.shared.compare import implementation
from suite.shared.files import ROOT

CPU = torch.device("cpu")
F32 = torch.float32


#: Gradients that are parts of one array.
VIEWS = """import torch
from hyperlstm import Impl, deferred
from hyperlstm.gradient import HandWritten, as_operator


def backward(*arguments):
    gradients = deferred.backward(*arguments)
    parts = torch.cat([d.flatten() for d in gradients.values()]).split([d.numel() for d in gradients.values()])
    return {name: part.view_as(d) for (name, d), part in zip(gradients.items(), parts, strict=True)}


run = as_operator("views", HandWritten(deferred.forward, backward, residuals=lambda I, H, S: 4 * (H + S)))
IMPL = Impl("views", hand_written=True)
"""


@pytest.fixture(autouse=True, scope="module")
def _registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Register the example of impls/README.md as `mine`, gradients that share memory, and two plain functions."""
    with pytest.MonkeyPatch.context() as patch:
        withdraw_with(patch)
        folder = tmp_path_factory.mktemp("files")
        by_hand = (ROOT / "impls" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        for name, source in (("mine", by_hand), ("views", VIEWS)):
            (folder / f"{name}.py").write_text(source)
            submission.load(folder / f"{name}.py")
        register(Impl("plain", options=frozenset()), registry.find("row_scaled").run)
        register(Impl("packed", packed=True), registry.find("deferred").run)
        yield


def test_says_what_it_can() -> None:
    assert names()[-4:] == ["mine", "views", "plain", "packed"]
    assert "impl=mine" in repr(implementation("mine")(CASE, F32, CPU))
    assert why_unavailable("mine", "cpu") is None
    assert why_unavailable("mine", "cpu", torch.bfloat16) == "mine computes in float64, float32, not in bfloat16."
    assert why_unavailable("plain", "cpu", options=["layer_norm"]) == "plain does not support layer_norm."
    assert registry.resolve("auto", CPU, F32).name not in names()[-4:]
    assert hasattr(torch.ops.hyperlstm_in_mine, "mine")  # a name that no operator of ours can have


CAPABLE = ("packed sequences", "recurrent dropout", "torch.compile, fullgraph", "deepcopy and pickle")


@pytest.mark.parametrize(
    ("function", "capability"),
    [*(("by hand", one) for one in CAPABLE), ("of views", CAPABLE[2]), ("of packed sequences", CAPABLE[0])],
)
def test_has_the_capabilities_of_ours(function: str, capability: str) -> None:
    """The parameter is no name, by which the tests of a file of that name are chosen."""
    name = {"by hand": "mine", "of views": "views", "of packed sequences": "packed"}[function]
    CAPABILITIES[capability].check(name, CPU)


@pytest.mark.parametrize("capability", ["second derivative", "jacobian, vectorize=True"])
def test_a_hand_written_gradient_refuses_what_it_cannot(capability: str) -> None:
    one = CAPABILITIES[capability]
    with pytest.raises(NotImplementedError, match=f"mine .*{one.pattern}"):
        one.check("mine", CPU)


GOOD = Impl("other")


def run(p: object, inputs: Inputs) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("impl", "function", "error", "message"),
    [
        (replace(GOOD, name="batched"), run, ValueError, "^impl.name: expected a name other than .*; got 'batched'"),
        (replace(GOOD, name="auto"), run, ValueError, "^impl.name: expected a name other than .*; got 'auto'"),
        (replace(GOOD, options=frozenset({"proj"})), run, ValueError, "^impl.options: expected some of .*; got proj"),
        (replace(GOOD, dtypes=(torch.int8,)), run, ValueError, "^impl.dtypes: expected floating.*got torch.int8"),
        (replace(GOOD, dtypes=("float32",)), run, ValueError, "^impl.dtypes: expected floating.*got 'float32'"),  # type: ignore[arg-type]
        (replace(GOOD, devices=("cuda:0",)), run, ValueError, "^impl.devices: expected types .*got 'cuda:0'"),
        (replace(GOOD, probe=True), run, ValueError, "^impl: expected no probe"),
        (replace(GOOD, interpreted_on=("cpu",)), run, ValueError, "^impl: expected no .* or interpreted_on"),
        (GOOD, None, TypeError, "^register: expected an Impl and a function, got .* and None"),
        ("other", run, TypeError, "^register: expected an Impl and a function, got 'other'"),
    ],
)  # fmt: skip
def test_a_bad_registration_raises_and_adds_nothing(
    impl: Any, function: Any, error: type[Exception], message: str
) -> None:
    before = names(), {**registry._RUNS}
    with pytest.raises(error, match=message):
        register(impl, function)
    assert (names(), registry._RUNS) == before
