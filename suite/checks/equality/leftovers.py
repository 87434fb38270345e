"""What a call must leave as it was: settings of torch and of ours, the random generator, attributes of the model."""

import os
from collections.abc import Callable
from inspect import signature

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.gradient.chunks import limits
from suite.cases.case import Case
from suite.comparison.draws import Draw
from suite.comparison.oracle import Outcome, Run
from suite.comparison.tensors import Finding, Wrong

#: A few denormals, which are slow, in an array that is large enough for all of torch's threads to share.
_DENORMALS = torch.zeros(1 << 16, dtype=torch.float64).index_fill_(0, torch.arange(0, 1 << 16, 512), 1e-310)


def _denormals() -> int:
    """How many of torch's results are not flushed to zero, in whichever of its threads."""
    return int((_DENORMALS * 1).count_nonzero())


#: Of the process, by name.
SETTINGS: dict[str, Callable[[], object]] = {
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
    "anomaly mode": torch.is_anomaly_enabled,
    "threads": torch.get_num_threads,
    "denormals": _denormals,
    "deterministic algorithms": torch.get_deterministic_debug_mode,
    "uninitialised memory": lambda: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    "autocast": lambda: [(torch.is_autocast_enabled(t), torch.get_autocast_dtype(t)) for t in ("cpu", "cuda")],
    "autocast's cache": torch.is_autocast_cache_enabled,
    "default dtype": torch.get_default_dtype,
    "default device": torch.get_default_device,
    "matmul precision": torch.get_float32_matmul_precision,
    # Torch sets one when it imports its compiler.
    "environment": lambda: {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"},
}


def settings(model: HyperLSTM) -> dict[str, object]:
    """Values that a call must leave as they are, by name."""
    devices = next(model.parameters()).device, torch.device("meta")
    return {
        **{name: get() for name, get in SETTINGS.items()},
        "limits of a chunk": [limits(device) for device in devices],
        "options": {name: vars(model)[name] for name in signature(HyperLSTM).parameters if name in vars(model)},
        "training": [module.training for module in model.modules()],
        "names": [list(vars(module)) for module in model.modules()],
    }


def altered(model: HyperLSTM, before: dict[str, object]) -> dict[str, object]:
    """Settings that are not as they were before."""
    return {name: value for name, value in settings(model).items() if value != before[name]}


def _random(device: torch.device) -> Tensor:
    """State of torch's generator of a device."""
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


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
        findings = tuple(Finding(Wrong.SETTING_CHANGED, name) for name in changed)
        return outcome._replace(findings=outcome.findings + findings)

    return watch
