"""The second of two equal calls opens, imports and compiles nothing."""

import sys
from typing import Any

import pytest
import torch

from impls import names
from suite.candidates import submission
from suite.cases.case import Case
from suite.checks.implementations import skip_unless_checked
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import plain
from suite.shared.marks import impl_params

ONE = Case(T=3, B=2, I=5, H=7, S=5, Z=2)
DROPPED = Case(T=3, B=2, I=5, H=7, S=5, Z=2, L=3, layer_norm=True, dropout=0.3, recurrent_dropout=0.4)
PACKED = Case(T=3, B=2, I=5, H=7, S=5, Z=2, lengths=(3, 1))
#: Audit events of Python: files, imports, libraries, processes, code.
ONCE = ("open", "import", "ctypes.dlopen", "subprocess.Popen", "os.listdir", "os.scandir", "compile", "exec")
_raised: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _raised is not None and event in ONCE:
        _raised.append(f"{event} {arguments[0]!r:.200}")


sys.addaudithook(_audit)  # for good: Python removes none


@pytest.fixture(params=impl_params(name for name in names() if name not in submission.files()))
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation of the project that runs here in float32; a file's own may be as slow as it likes."""
    skip_unless_checked(request.param, device)
    return str(request.param)


@pytest.mark.parametrize("case", [ONE, DROPPED, PACKED], ids=["one", "dropped", "packed"])
def test_opens_imports_and_compiles_nothing(
    name: str, case: Case, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sample = model_and_draw(name, case, torch.float32, device)
    plain(model, case, sample)
    monkeypatch.setattr(sys.modules[__name__], "_raised", events := list[str]())
    plain(model, case, sample)
    monkeypatch.undo()
    assert events == []


@pytest.mark.thorough("what a compiled model compiles in a second call")
def test_a_compiled_model_is_compiled_once(name: str, device: torch.device) -> None:
    model, sample = model_and_draw(name, DROPPED, torch.float32, device)
    model.compile(backend="eager", fullgraph=True)
    plain(model, DROPPED, sample)
    with torch.compiler.set_stance("fail_on_recompile"):
        plain(model, DROPPED, sample)
