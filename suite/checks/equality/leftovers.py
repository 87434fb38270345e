"""What a call must leave as it was: settings of torch and of ours, the random generator, attributes of the model.

`python -m suite.checks.equality.leftovers DEVICE` fails if a first call in its process changes a setting.
"""

import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from impls import HyperLSTM, names, why_unavailable
from impls.gradient.chunks import limits
from impls.hyperlstm import ATTRIBUTES
from impls.registry import ORACLE, find
from suite.cases.case import Case
from suite.cases.verification import TWO_LAYERS
from suite.comparison.draws import Draw, model_and_draw
from suite.comparison.runs import Outcome, Run, plain
from suite.shared.devices import DeviceType

#: A few denormals, which are slow, in an array that is large enough for all of torch's threads to share.
_DENORMALS = torch.zeros(1 << 16, dtype=torch.float64).index_fill_(0, torch.arange(0, 1 << 16, 512), 1e-310)


def _denormals() -> int:
    """How many of torch's results are not flushed to zero, in whichever of its threads."""
    return int((_DENORMALS * 1).count_nonzero())


#: A variable that torch sets when it imports its compiler.
_SET_BY_TORCH = "TORCHINDUCTOR_CACHE_DIR"
#: What a call must leave as it was, of the process and of a model, by its name in findings and faults.
SETTINGS: dict[str, Callable[[HyperLSTM], object]] = {
    "grad mode": lambda _: torch.is_grad_enabled(),
    "inference mode": lambda _: torch.is_inference_mode_enabled(),
    "anomaly mode": lambda _: torch.is_anomaly_enabled(),
    "threads": lambda _: torch.get_num_threads(),
    "denormals": lambda _: _denormals(),
    "deterministic algorithms": lambda _: torch.get_deterministic_debug_mode(),
    "uninitialised memory": lambda _: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    "autocast": lambda _: [(torch.is_autocast_enabled(t), torch.get_autocast_dtype(t)) for t in ("cpu", "cuda")],
    "autocast's cache": lambda _: torch.is_autocast_cache_enabled(),
    "default dtype": lambda _: torch.get_default_dtype(),
    "default device": lambda _: torch.get_default_device(),
    "matmul precision": lambda _: torch.get_float32_matmul_precision(),
    "environment": lambda _: {name: value for name, value in os.environ.items() if name != _SET_BY_TORCH},
    "limits of a chunk": lambda model: [limits(next(model.parameters()).device), limits(torch.device("meta"))],
    "options": lambda model: {name: getattr(model, name) for name in ATTRIBUTES},
    "training": lambda model: [module.training for module in model.modules()],
    "attributes": lambda model: [list(vars(module)) for module in model.modules()],
}


def settings(model: HyperLSTM) -> dict[str, object]:
    """Values that a call must leave as they are."""
    return {name: get(model) for name, get in SETTINGS.items()}


def altered(model: HyperLSTM, before: dict[str, object]) -> dict[str, object]:
    """Settings that are not as they were before."""
    return {name: value for name, value in settings(model).items() if value != before[name]}


def _random(device: torch.device) -> Tensor:
    """State of torch's generator of the CPU, and of a GPU behind it."""
    of_cpu = torch.get_rng_state()
    return of_cpu if device.type == DeviceType.CPU else torch.cat([of_cpu, torch.cuda.get_rng_state(device)])


def watched(run: Run) -> Run:
    """A run with a finding of each setting that it leaves changed."""

    def watch(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        device = next(model.parameters()).device
        before = settings(model)
        random = _random(device)
        outcome = run(model, case, sample)
        changed = list(altered(model, before))
        drops = case.training and (case.dropout > 0 or case.recurrent_dropout > 0)
        if not drops and not random.equal(_random(device)):
            changed.append("random generator")
        findings = [f"setting changed: {name}" for name in changed]
        return outcome._replace(findings=(*outcome.findings, *findings))

    return watch


def first_calls(device: str) -> None:
    """Call every implementation; AssertionError names the first that changes a setting."""
    bystander, _ = model_and_draw(ORACLE, TWO_LAYERS, torch.float32, torch.device(device))
    before = settings(bystander)
    for name in names():
        for dtype in find(name).dtypes:
            if why_unavailable(name, device, dtype) is not None:
                continue
            model, sample = model_and_draw(name, TWO_LAYERS, dtype, torch.device(device))
            plain(model, TWO_LAYERS, sample)
            changed = altered(bystander, before)
            if changed:
                raise AssertionError(f"{name}: its first call in {dtype} changed {changed}")


if __name__ == "__main__":
    first_calls(sys.argv[1])
