"""What a call must leave as it was: settings of torch and of ours, the random generator, attributes of the model."""

import os
from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.gradient.chunks import limits
from impls.hyperlstm import ATTRIBUTES
from suite.cases.case import Case
from suite.comparison.draws import Draw
from suite.comparison.runs import Outcome, Run
from suite.comparison.tensors import Finding, Wrong
from suite.shared.devices import DeviceType

#: A few denormals, which are slow, in an array that is large enough for all of torch's threads to share.
_DENORMALS = torch.zeros(1 << 16, dtype=torch.float64).index_fill_(0, torch.arange(0, 1 << 16, 512), 1e-310)


def _denormals() -> int:
    """How many of torch's results are not flushed to zero, in whichever of its threads."""
    return int((_DENORMALS * 1).count_nonzero())


#: A variable that torch sets when it imports its compiler.
_SET_BY_TORCH = "TORCHINDUCTOR_CACHE_DIR"


class Invariant(StrEnum):
    """What a call must leave as it was, of the process and of a model; findings and faults name it by its value."""

    GRAD_MODE = "grad mode"
    INFERENCE_MODE = "inference mode"
    ANOMALY_MODE = "anomaly mode"
    THREADS = "threads"
    DENORMALS = "denormals"
    DETERMINISTIC_ALGORITHMS = "deterministic algorithms"
    UNINITIALISED_MEMORY = "uninitialised memory"
    AUTOCAST = "autocast"
    AUTOCAST_CACHE = "autocast's cache"
    DEFAULT_DTYPE = "default dtype"
    DEFAULT_DEVICE = "default device"
    MATMUL_PRECISION = "matmul precision"
    ENVIRONMENT = "environment"
    CHUNK_LIMITS = "limits of a chunk"
    OPTIONS = "options"
    TRAINING = "training"
    ATTRIBUTES = "attributes"
    RANDOM_GENERATOR = "random generator"


#: How to read those of the process.
SETTINGS: dict[Invariant, Callable[[], object]] = {
    Invariant.GRAD_MODE: torch.is_grad_enabled,
    Invariant.INFERENCE_MODE: torch.is_inference_mode_enabled,
    Invariant.ANOMALY_MODE: torch.is_anomaly_enabled,
    Invariant.THREADS: torch.get_num_threads,
    Invariant.DENORMALS: _denormals,
    Invariant.DETERMINISTIC_ALGORITHMS: torch.get_deterministic_debug_mode,
    Invariant.UNINITIALISED_MEMORY: lambda: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    Invariant.AUTOCAST: lambda: [(torch.is_autocast_enabled(t), torch.get_autocast_dtype(t)) for t in ("cpu", "cuda")],
    Invariant.AUTOCAST_CACHE: torch.is_autocast_cache_enabled,
    Invariant.DEFAULT_DTYPE: torch.get_default_dtype,
    Invariant.DEFAULT_DEVICE: torch.get_default_device,
    Invariant.MATMUL_PRECISION: torch.get_float32_matmul_precision,
    Invariant.ENVIRONMENT: lambda: {name: value for name, value in os.environ.items() if name != _SET_BY_TORCH},
}


def settings(model: HyperLSTM) -> dict[Invariant, object]:
    """Values that a call must leave as they are."""
    devices = next(model.parameters()).device, torch.device("meta")
    return {
        **{name: get() for name, get in SETTINGS.items()},
        Invariant.CHUNK_LIMITS: [limits(device) for device in devices],
        Invariant.OPTIONS: {name: getattr(model, name) for name in ATTRIBUTES},
        Invariant.TRAINING: [module.training for module in model.modules()],
        Invariant.ATTRIBUTES: [list(vars(module)) for module in model.modules()],
    }


def altered(model: HyperLSTM, before: dict[Invariant, object]) -> dict[Invariant, object]:
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
            changed.append(Invariant.RANDOM_GENERATOR)
        findings = tuple(Finding(Wrong.SETTING_CHANGED, name) for name in changed)
        return outcome._replace(findings=outcome.findings + findings)

    return watch
