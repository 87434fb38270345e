"""HyperLSTM in JAX, which `jax_lstm.py` has."""

import torch

from impls import HyperLSTM, registry
from impls.definition import dtype_name
from suite.candidates.candidate import BATCHES, alternative
from suite.cases.case import Case
from suite.comparison.draws import implementation
from suite.shared.devices import DeviceType


def build_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """HyperLSTM computed by JAX, to be compared like ours."""
    from suite.candidates.jax_lstm import JaxHyperLSTM

    return implementation(registry.ORACLE, JaxHyperLSTM)(case, dtype, device)


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    if dtype != torch.float32:
        return f"jax is compared in float32, not in {dtype_name(dtype)}."
    try:
        import jax
    except ImportError as error:
        return f"jax is not installed ({error})."
    if device.type == DeviceType.CUDA and jax.default_backend() != "gpu":
        return "jax sees no GPU: it is installed for the CPU alone."
    return None


CANDIDATE = alternative(
    "jax",
    build_as_ours,
    lacks=BATCHES | {"L", "state"},
    why_unavailable=why_not,
    of_torch=False,
    modules=("jax",),
)
