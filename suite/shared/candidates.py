"""What the benchmark times: every implementation, and what people use today."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

import impls
from impls import HyperLSTM, names, registry
from impls.convert import from_labml, to_labml
from impls.definition import dtype_name
from suite.shared import submission
from suite.shared.cases import ALTERNATIVES, ARGUMENTS, BASELINE, PADDED, Case
from suite.shared.compare import Build, draw, implementation

#: Environment variable with a folder whose `impls` is timed instead of this checkout's.
BASE = "HYPERLSTM_BASE"


@dataclass(frozen=True)
class Candidate:
    """Something to time: how to build it for a case with random weights, and how it compares with ours."""

    name: str
    build: Callable[[Case, torch.dtype, torch.device], nn.Module]
    layer_norms: tuple[bool, ...]
    why_unavailable: Callable[[torch.device, torch.dtype], str | None]
    #: What it lacks of `Candidate.takes`.
    lacks: tuple[str, ...] = ()
    #: Whether it pads packed sequences, and is timed on these alone.
    pads: bool = False
    #: Whether every new combination of sizes is compiled first, which takes many seconds.
    compiles_each_size: bool = False
    #: Whether it is a reference form, which is written like the equation, and slow.
    literal: bool = False
    #: Whether its gradient is written by hand, not recorded by autograd.
    hand_written: bool = True
    #: Whether others wrote it; without a GPU it is timed by default on few workloads.
    of_others: bool = False
    #: Whether it computes what a HyperLSTM does, so that its results are compared with those of a verified one,
    compared: bool = True
    #: and tensors like its parameters, by name, under the names and in the shapes of a HyperLSTM's.
    as_ours: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    #: An implementation that computes part of it.
    built_on: str = ""
    #: Other projects' modules that its first call imports, which takes long, and kinds of device on which it may run.
    modules: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")
    #: Whether torch computes it. Otherwise its memory is not measured.
    of_torch: bool = True
    multiply_adds: Callable[[Case], int] = Case.multiply_adds
    #: Numbers per token and layer that a backward pass needs beside x and h: c, and h and c of the hyper LSTM.
    saved: Callable[[Case], int] = lambda case: case.H + 2 * case.S

    def takes(self, case: Case) -> bool:
        """True if it can compute a case, and is timed on such ones at all."""
        needs = {
            "lengths": bool(case.lengths),
            "layers": case.L > 1,
            "state": case.state != "none",
            **{name: bool(value) for name, value in case.arguments.items()},
        }
        return not any(needs[each] for each in self.lacks) and (not self.pads or bool(case.lengths))


def _drawn(build: Build, case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A model with random weights."""
    model = build(case, dtype, torch.device("meta"))
    model.load_state_dict(draw(case, 0, dtype, device).params, assign=True)
    return model


@cache
def timed_package() -> ModuleType:
    """The package whose implementations are timed: `impls`, or that of the folder that BASE names."""
    if not (folder := os.environ.get(BASE)):
        return impls
    spec = spec_from_file_location("impls_of_base", Path(folder) / "impls" / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder}: expected a folder with impls")
    package = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def _implementation(name: str) -> Candidate:
    def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
        if impl.interpreted(device):
            return f"{name} would run in Triton's interpreter, whose speed says nothing."
        # Of another revision only HyperLSTM is used: what cannot run there fails.
        return impls.why_unavailable(name, device, dtype) if package is impls else None

    impl, package = registry.find(name), timed_package()
    build = implementation(name, package.HyperLSTM)
    return Candidate(
        name,
        partial(_drawn, build),
        layer_norms=(False, True) if "layer_norm" in impl.options else (False,),
        lacks=tuple(option for option in registry.OPTIONS if option != "layer_norm" and option not in impl.options),
        why_unavailable=why_not,
        literal=impl.literal,
        hand_written=impl.hand_written,
        modules=("triton",) if impl.interpreted_on else (),
        devices=impl.devices,
    )


def compiled_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """`batched` with its step through torch.compile."""
    from suite.shared.compiled_lstm import CompiledHyperLSTM

    return implementation("batched", CompiledHyperLSTM)(case, dtype, device)


def _why_not_compiled(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if torch.compile can compile for the device, else the reason in a sentence."""
    if device.type == "cuda":
        return None if find_spec("triton") else "compiled needs Triton on a GPU; it is not installed."
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import

    try:
        get_cpp_compiler()
    except Exception as error:
        return f"compiled needs a C++ compiler, and torch finds none: {' '.join(str(error).split())}"
    return None


def _labml(case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Module of labml with random weights."""
    from labml_nn.hypernetworks import hyper_lstm

    model: nn.Module = hyper_lstm.HyperLSTM(case.I, case.H, case.S, case.Z, case.L).to(dtype).to(device)
    model.load_state_dict(to_labml(draw(case, 0, dtype, device).params))
    return model


def labml_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """HyperLSTM that calls labml's module with the same parameters, to be compared like ours."""
    from labml_nn.hypernetworks import hyper_lstm

    model = implementation(registry.ORACLE)(case, dtype, device)
    theirs = hyper_lstm.HyperLSTM(case.I, case.H, case.S, case.Z, case.L).to("meta")

    def forward(x: Tensor, state: tuple[Tensor, ...] | None = None) -> Any:
        # The converter only reorders numbers, so gradients flow through it.
        return torch.func.functional_call(theirs, to_labml(dict(model.named_parameters())), (x, state))

    model.forward = forward  # type: ignore[method-assign, assignment]
    return model


def jax_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """HyperLSTM computed by JAX, to be compared like ours."""
    from suite.shared.jax_lstm import JaxHyperLSTM

    return implementation(registry.ORACLE, JaxHyperLSTM)(case, dtype, device)


def _why_no_jax(device: torch.device, dtype: torch.dtype) -> str | None:
    if dtype != torch.float32:
        return f"jax is compared in float32, not in {dtype_name(dtype)}."
    try:
        import jax
    except ImportError as error:
        return f"jax is not installed ({error})."
    if device.type == "cuda" and jax.default_backend() != "gpu":
        return "jax sees no GPU: it is installed for the CPU alone."
    return None


class PaddedLSTM(nn.LSTM):
    """An LSTM that pads packed sequences, which can be faster than steps of ever fewer rows."""

    def forward(self, x: PackedSequence, state: tuple[Tensor, Tensor] | None = None) -> Any:  # type: ignore[override]
        """Run all steps of all rows, see `torch.nn.LSTM.forward`."""
        return super().forward(pad_packed_sequence(x)[0], state)


def _lstm(cls: type[nn.LSTM], case: Case, dtype: torch.dtype, device: torch.device) -> nn.LSTM:
    """An LSTM whose weights on a GPU share one buffer, as cuDNN takes them.

    torch makes that buffer itself for float32 and float16; for bfloat16 every call would copy all weights into one.
    """
    # torch warns of dropout after the only layer, where it has no effect.
    lstm = cls(case.I, case.H, case.L, dropout=case.dropout if case.L > 1 else 0.0, dtype=dtype, device=device)
    if device.type == "cuda" and dtype == torch.bfloat16 and torch.backends.cudnn.is_available():
        mode = torch.backends.cudnn.rnn.get_cudnn_mode(lstm.mode)
        with torch.no_grad(), torch.cuda.device(device):
            torch._cudnn_rnn_flatten_weight(list(lstm.parameters()), 4, case.I, mode, case.H, 0, case.L, False, False)
    return lstm


#: The baseline of all rounds. Its own row is the A/A run: the baseline against itself.
LSTM = Candidate(
    BASELINE,
    partial(_lstm, nn.LSTM),
    layer_norms=(False,),
    why_unavailable=lambda *_: None,
    compared=False,
    multiply_adds=lambda case: case.tokens * sum(4 * case.H * (case.H + I) for I in case.inputs),
    saved=lambda case: case.H,
)
#: Timed where the baseline takes packed sequences: a user would pick the faster of the two.
PADDED_LSTM = replace(LSTM, name=PADDED, build=partial(_lstm, PaddedLSTM), pads=True)


def _alternative(name: str, ours: Build, lacks: tuple[str, ...] = (), **options: Any) -> Candidate:
    """An alternative to ours, for batches of one length and without options but layer norm.

    ours: builds it with the interface of `HyperLSTM`. lacks: what it lacks beside these.
    """
    no_options = [name for name in ARGUMENTS if name != "layer_norm"]
    usual = {"build": partial(_drawn, ours), "layer_norms": (False, True)}
    return Candidate(name, **{**usual, **options}, lacks=("lengths", *no_options, *lacks))


COMPILED = _alternative(
    "compiled",
    compiled_as_ours,
    why_unavailable=_why_not_compiled,
    compiles_each_size=True,
    hand_written=False,
    built_on="batched",
    modules=("torch._dynamo", "torch._inductor.compile_fx"),
)
LABML = _alternative(
    "labml",
    labml_as_ours,
    build=_labml,
    layer_norms=(True,),
    why_unavailable=lambda *_: None,
    hand_written=False,
    as_ours=from_labml,
    modules=("labml_nn.hypernetworks.hyper_lstm",),
    of_others=True,
)
JAX = _alternative(
    "jax",
    jax_as_ours,
    ("layers", "state"),
    why_unavailable=_why_no_jax,
    compiles_each_size=True,
    of_torch=False,
    modules=("jax",),
    of_others=True,
)


def candidates() -> list[Candidate]:
    """All candidates in the order of the tables."""
    return [*map(_implementation, names()), LSTM, PADDED_LSTM, COMPILED, LABML, JAX]


def alternatives() -> list[str]:
    """Names of what a user could take instead: our forms under autograd, and what others wrote."""
    own = [name for name in names() if name not in submission.files()]
    return [*(name for name in own if not registry.find(name).hand_written), *ALTERNATIVES]


def find(name: str) -> Candidate:
    """Candidate of that name."""
    return next(candidate for candidate in candidates() if candidate.name == name)
