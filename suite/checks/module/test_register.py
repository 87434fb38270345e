"""A registered implementation works as ours do: that of impls/README.md, with a gradient by hand, and a plain one."""

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch

from impls import HyperLSTM, Impl, names, register, registry, why_unavailable
from impls.definition import Inputs
from suite.checks.module.runs import CASE, DROPPED, PACKED, Example, each_agrees, example
from suite.shared.compare import assert_bitwise_equal, compare, implementation
from suite.shared.files import ROOT

CPU = torch.device("cpu")
F32 = torch.float32


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    """Register the example of impls/README.md as `mine`, and a plain function as `plain`."""
    before = len(registry.IMPLS)
    with pytest.MonkeyPatch.context() as patch:
        for part in ("", ".definition", ".gradient", ".row_scaled"):  # which the wheel calls by another name
            patch.setitem(sys.modules, f"hyperlstm{part}", import_module(f"impls{part}"))
        code = (ROOT / "impls" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
        module: dict[str, Any] = {"__name__": "mine"}
        exec(compile(code, "impls/README.md", "exec"), module)
        register(module["IMPL"], module["run"])
    register(Impl("plain", options=frozenset()), registry.find("row_scaled").run)
    yield
    for impl in registry.IMPLS[before:]:
        del registry._RUNS[impl.name]
    del registry.IMPLS[before:]


def test_equals_the_oracle() -> None:
    for case in (CASE, DROPPED, PACKED):
        worst = compare(implementation("mine"), case, F32, CPU)[0]
        assert worst.ratio <= 1, worst


def test_says_what_it_can() -> None:
    assert names()[-2:] == ["mine", "plain"]
    assert "impl=mine" in repr(implementation("mine")(CASE, F32, CPU))
    assert why_unavailable("mine", "cpu") is None
    assert why_unavailable("mine", "cpu", torch.bfloat16) == "mine computes in float64, float32, not in bfloat16."
    assert why_unavailable("plain", "cpu", options=["layer_norm"]) == "plain does not support layer_norm."
    assert registry.resolve("auto", CPU, F32).name not in ("mine", "plain")
    assert hasattr(torch.ops.hyperlstm_in_mine, "mine")  # a name that no operator of ours can have


def test_compiles() -> None:
    model = example("mine", CPU, DROPPED).model
    model.compile(backend="aot_eager", fullgraph=True)
    each_agrees(Example.results, model, DROPPED, CPU)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(copied: Callable[[HyperLSTM], HyperLSTM]) -> None:
    one = example("mine", CPU)
    duplicate = copied(one.model)
    assert duplicate.impl == "mine"
    duplicate.load_state_dict(one.model.state_dict())
    assert_bitwise_equal(one._replace(model=duplicate).results(), one.results())


def test_a_hand_written_gradient_refuses_what_it_cannot() -> None:
    model, x, _ = example("mine", CPU)
    (d_x,) = torch.autograd.grad(model(x.requires_grad_())[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="mine has no second derivative; these have: naive"):
        d_x.sum().backward()
    with pytest.raises(NotImplementedError, match=r"mine takes no batch of gradients .*; these do: .*batched"):
        torch.autograd.functional.jacobian(lambda y: model(y)[0], x, vectorize=True)


GOOD = Impl("other")


def run(p: object, inputs: Inputs) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("impl", "function", "error", "message"),
    [
        (replace(GOOD, name="batched"), run, ValueError, "^impl.name: expected a name other than .*; got 'batched'"),
        (replace(GOOD, name="mine"), run, ValueError, "^impl.name: expected a name other than .*; got 'mine'"),
        (replace(GOOD, name="auto"), run, ValueError, "^impl.name: expected a name other than .*; got 'auto'"),
        (replace(GOOD, options=frozenset({"proj"})), run, ValueError, "^impl.options: expected some of .*; got proj"),
        (replace(GOOD, dtypes=(torch.int8,)), run, ValueError, "^impl.dtypes: expected floating.*got torch.int8"),
        (replace(GOOD, dtypes=("float32",)), run, ValueError, "^impl.dtypes: expected floating.*got 'float32'"),  # type: ignore[arg-type]
        (replace(GOOD, devices=("cuda:0",)), run, ValueError, "^impl.devices: expected types .*got 'cuda:0'"),
        (replace(GOOD, oracle=True), run, ValueError, "^impl: expected no oracle"),
        (replace(GOOD, probe=True), run, ValueError, "^impl: expected no oracle, probe"),
        (replace(GOOD, interpreted_on=("cpu",)), run, ValueError, "^impl: expected no .* or interpreted_on"),
        (GOOD, None, TypeError, "^register: expected an Impl and a function, got .* and None"),
        ("other", run, TypeError, "^register: expected an Impl and a function, got 'other'"),
    ],
)  # fmt: skip
def test_a_bad_registration_raises_and_adds_nothing(
    impl: Any, function: Any, error: type[Exception], message: str
) -> None:
    before = names()
    with pytest.raises(error, match=message):
        register(impl, function)
    assert names() == before
