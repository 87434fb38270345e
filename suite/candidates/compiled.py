"""`batched` with its step through torch.compile."""

from importlib.util import find_spec

import torch

from impls import HyperLSTM
from suite.candidates.candidate import alternative
from suite.cases.case import Case
from suite.comparison.draws import implementation
from suite.shared.devices import DeviceType
from suite.shared.text import in_one_line


def build_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """`batched` with its step through torch.compile."""
    from suite.candidates.compiled_lstm import CompiledHyperLSTM

    return implementation("batched", CompiledHyperLSTM)(case, dtype, device)


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if torch.compile can compile for the device, else the reason in a sentence."""
    if device.type == DeviceType.CUDA:
        return None if find_spec("triton") else "compiled needs Triton on a GPU; it is not installed."
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import

    try:
        get_cpp_compiler()
    except Exception as error:
        return f"compiled needs a C++ compiler, and torch finds none: {in_one_line(error)}"
    return None


CANDIDATE = alternative(
    "compiled",
    build_as_ours,
    why_unavailable=why_not,
    modules=("torch._dynamo", "torch._inductor.compile_fx"),
    called="torch.compile",
)
