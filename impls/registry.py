"""The table of implementations, to which `register` adds: which exist, and which of them run on a device in a dtype."""

import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from .definition import Inputs, LayerParams, LayerState, Run, dtype_name
from .tracing import constant, constant_once, in_transform, is_recorded, level_of_caller

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _full_name(name: str) -> str:
    """Full name of the module of an implementation of this package."""
    return f"{__package__}.{name}"


@constant
def _imported(name: str) -> str:
    """Import an implementation and return its module's full name; torch.compile does this while it traces."""
    full = _full_name(name)
    if full not in sys.modules:  # each call asks, and to ask `import_module` takes microseconds
        import_module(full)
    return full


@constant
def _probed(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Result of `why_unavailable` in the implementation's module."""
    reason: str | None = sys.modules[_imported(name)].why_unavailable(device, dtype)
    return reason


@constant
def _unsuited_card(name: str, device: torch.device, least: tuple[int, int]) -> str | None:
    """None if a GPU is NVIDIA's and has at least that compute capability, else the reason in a sentence."""
    if torch.version.hip is not None:
        return f"{name} is written for NVIDIA cards; this build of torch is for AMD's."
    if (capability := torch.cuda.get_device_capability(device)) < least:
        wanted, has = (".".join(map(str, numbers)) for numbers in (least, capability))
        return f"{name} needs compute capability {wanted} or higher; this card has {has}."
    return None


@constant_once
def why_no_code(device: torch.device) -> str | None:
    """None if this build of torch has code for that NVIDIA GPU, else the reason in a sentence."""
    built, has = torch.cuda.get_arch_list(), torch.cuda.get_device_capability(device)
    if torch.version.hip is not None or not built:
        return None
    for arch in built:  # such as sm_86, code of that card, or compute_90, which the driver compiles for later ones
        kind, _, digits = arch.partition("_")
        least = divmod(int(re.sub(r"\D", "", digits)), 10)
        if least <= has and (kind == "compute" or least[0] == has[0]):
            return None
    card = f"{torch.cuda.get_device_name(device)}, whose compute capability is {has[0]}.{has[1]}"
    return (
        f"torch {torch.__version__} has code for {', '.join(built)}, and none for this {card}: "
        "install a build of torch for it, such as one for an older or newer CUDA."
    )


class UnsupportedError(RuntimeError):
    """A named implementation lacks an option of the model, or a size: `impl` by name, and `reason` in a sentence.

    message: more than the reason.
    """

    def __init__(self, impl: str, reason: str, message: str = "") -> None:
        self.impl, self.reason = impl, reason
        super().__init__(message or reason)


#: Options of the model that an implementation may lack: attributes of `HyperLSTM`, on if they are true.
OPTIONS = ("layer_norm", "recurrent_dropout")
#: Arguments of `HyperLSTM` by the letters of sizes that an implementation may want to be multiples.
SIZES = {"I": "input_size", "H": "hidden_size", "S": "hyper_size", "Z": "n_z"}


@dataclass(frozen=True)
class Impl:
    """One implementation and what it can do: a module or package of that name in `impls/`, or one that is registered.

    summary: when to pick it, in Markdown, for the table of the README.
    preference: "auto" takes the available implementation with the highest preference.
    devices: types of torch devices. dtypes: dtypes of the parameters. capability: the least compute capability of a GPU
        for which it is written; one with it runs on NVIDIA's alone.
    options: names in `OPTIONS` that it supports.
    multiples: by letter, what a size has to be a multiple of: {"H": 8} of a kernel with blocks of 8 units.
    packed: it runs packed sequences in one call; the others run them segment by segment.
    hand_written: its gradient is hand-written, see `gradient/`; the others call torch's own operators one by one, which
        autograd differentiates any number of times.
    float32_sums: in bfloat16 and float16 too, its sums and cells are in float32; `nox -s verify` then allows it less.
    literal: it is written like the equation and is slow.
    builds_weights: it builds every row's own weights at each step, for which there is no memory at large sizes.
    probe: its module has a function `why_unavailable(device, dtype)`, called if devices, dtypes and capability allow a
        run: what an installation would mend. "auto" warns where it takes another for such a reason. A second function,
        `compiles_first(device, dtype)`, is true if that one would compile for seconds.
    interpreted_on: further devices on which it runs if TRITON_INTERPRET=1 is set, through Triton's interpreter, so that
        its kernels can be checked without a GPU. Such a run is never chosen by "auto" and never timed.
    compiler: command that compiles its C++ at first use, unless the environment variable CXX names another.
    triton: its kernels are written in Triton.
    experimental: "auto" does not take it, and only says that it is there. What needs a GPU is experimental until the
        project has results of a GPU.
    """

    name: str
    summary: str = ""
    preference: int = 0
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[torch.dtype, ...] = _FLOATS
    capability: tuple[int, int] | None = None
    options: frozenset[str] = frozenset({"layer_norm", "recurrent_dropout"})
    multiples: Mapping[str, int] = field(default_factory=dict, hash=False)
    packed: bool = False
    hand_written: bool = False
    float32_sums: bool = False
    literal: bool = False
    builds_weights: bool = False
    probe: bool = False
    interpreted_on: tuple[str, ...] = ()
    compiler: str = ""
    triton: bool = False
    experimental: bool = False
    #: The layer function of an implementation that was registered, which `register` adds; None of the project's own.
    registered: Run | None = field(default=None, repr=False)

    @property
    def module(self) -> str | None:
        """Full name of its module or package, None of an implementation that was registered."""
        return None if self.registered else _full_name(self.name)

    @property
    def run(self) -> Run:
        """The layer function, imported at first use."""
        run: Run = self.registered or sys.modules[_imported(self.name)].run
        return run

    def runs_on(self, device: torch.device) -> bool:
        """True on its types of device, and on the meta device, where a call only returns shapes."""
        return device.type in self.devices or (device.type == "meta" and not self.experimental)

    def interpreted(self, device: torch.device) -> bool:
        """True if a run on the device would go through Triton's interpreter."""
        return device.type in self.interpreted_on and os.environ.get("TRITON_INTERPRET") == "1"

    def why_unavailable(
        self,
        device: torch.device,
        dtype: torch.dtype,
        options: Iterable[str] = (),
        sizes: Mapping[str, int] | None = None,
    ) -> str | None:
        """None if this runs on device in dtype with the options and sizes, by letter, else the reason in a sentence."""
        if reason := self.why_unsuited(device, dtype, options, sizes):
            return reason
        if self.probe and device.type != "meta":
            return _probed(self.name, device, dtype)
        return None

    def compiles_first(self, device: torch.device, dtype: torch.dtype) -> bool:
        """True if the first call on device in dtype would compile it, and so would asking `why_unavailable`."""
        if not self.probe or device.type == "meta":
            return False
        first: bool = sys.modules[_imported(self.name)].compiles_first(device, dtype)
        return first

    def lacking(self, options: Iterable[str], sizes: Mapping[str, int] | None = None) -> str | None:
        """A sentence of the first option that it does not support, or size that does not fit; None without any."""
        for option in options:
            if option not in self.options:
                return f"{self.name} does not support {option}."
        if self.multiples and sizes:
            for letter, step in self.multiples.items():
                if sizes[letter] % step:
                    return f"{self.name} needs a {SIZES[letter]} that is a multiple of {step}, not {sizes[letter]}."
        return None

    def why_unsuited(
        self,
        device: torch.device,
        dtype: torch.dtype,
        options: Iterable[str] = (),
        sizes: Mapping[str, int] | None = None,
    ) -> str | None:
        """The same, but for what an installation would mend."""
        if reason := self.lacking(options, sizes):
            return reason
        if not (self.runs_on(device) or self.interpreted(device)):
            return f"{self.name} runs on {' and '.join(self.devices)}, not on {device.type}."
        if dtype not in self.dtypes:
            return f"{self.name} computes in {', '.join(map(dtype_name, self.dtypes))}, not in {dtype_name(dtype)}."
        if device.type == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA device here."
        if device.type == "cuda" and (reason := why_no_code(device)):
            return reason
        if device.type == "cuda" and self.capability is not None:
            return _unsuited_card(self.name, device, self.capability)
        return None


#: In the order of tables, which has no other meaning.
IMPLS = [
    Impl(
        "naive",
        "to read the equation as printed, and as the oracle of the checks; far too slow to train with",
        preference=1,
        literal=True,
        builds_weights=True,
    ),
    Impl("row_scaled", "to read or change the step itself, in few lines", preference=2, literal=True),
    Impl("batched", "for second derivatives, `torch.func`, and export to ONNX or TorchScript", preference=3),
    Impl(
        "deferred",
        "to train on a GPU for now, or where memory is short; `auto` takes it on a CPU without a C++ compiler",
        preference=4,
        packed=True,
        hand_written=True,
    ),
    Impl(
        "batched_cuda",
        "to train on an NVIDIA GPU of compute capability 8.0 or later",
        preference=5,
        devices=("cuda",),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        capability=(8, 0),
        packed=True,
        hand_written=True,
        probe=True,
        float32_sums=True,
        interpreted_on=("cpu",),
        triton=True,
        experimental=True,
    ),
    Impl(
        "batched_cpu",
        "to train or run on a CPU; C++, built at first use",
        preference=6,
        devices=("cpu",),
        dtypes=(torch.float64, torch.float32, torch.bfloat16),
        packed=True,
        hand_written=True,
        float32_sums=True,
        probe=True,
        compiler="c++",
    ),
]
#: Takes the implementation that is fastest here, where a name is expected.
AUTO = "auto"


#: Name of the implementation that all others are checked against.
ORACLE = "naive"


def register(impl: Impl, run: Run) -> None:
    """Add an implementation to this process, or replace one of that name that was added before.

    `HyperLSTM(..., impl=impl.name)` then runs it.

    run: function of one layer, (`LayerParams`, `Inputs`) -> out [T, B, H] and the final `LayerState`. It gets at least
        one step, and packed sequences only if `impl.packed`. With a hand-written gradient (`impl.hand_written`) it is
        the result of `gradient.as_operator`. Each call checks that its results are tensors with the right shapes,
        dtype and device.

    TypeError if an argument has the wrong type. ValueError if the name is one of the project's, if an option, dtype,
    device or letter of `multiples` does not exist, or if impl is probed, interpreted or builds weights, as only the
    project's own implementations can.
    """
    if not isinstance(impl, Impl) or not callable(run):
        raise TypeError(f"register: expected an Impl and a function, got {impl!r} and {run!r}")
    _check_row(impl)
    row = replace(impl, registered=partial(_checked, run))
    if impl.name in names():
        IMPLS[names().index(impl.name)] = row
    else:
        IMPLS.append(row)


def _check_row(impl: Impl) -> None:
    """Raise ValueError unless the row can be registered."""
    own = [row.name for row in IMPLS if row.registered is None]
    if impl.name in (AUTO, *own):
        raise ValueError(f"impl.name: expected a name other than {AUTO!r}, {', '.join(own)}; got {impl.name!r}")
    if unknown := sorted(set(impl.options) - set(OPTIONS)):
        raise ValueError(f"impl.options: expected some of {', '.join(OPTIONS)}; got {', '.join(unknown)}")
    for dtype in impl.dtypes:
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"impl.dtypes: expected floating-point dtypes of torch, got {dtype!r}")
    for device in impl.devices:
        if torch.device(device).type != device:
            raise ValueError(f"impl.devices: expected types of devices such as 'cuda', got {device!r}")
    if impl.probe or impl.interpreted_on or impl.builds_weights:
        wrong = "probe, interpreted_on or builds_weights"
        raise ValueError(f"impl: expected no {wrong}, which the project's implementations have")
    for letter, step in impl.multiples.items():
        if letter not in SIZES or step < 1:
            raise ValueError(f"impl.multiples: expected positive numbers by {', '.join(SIZES)}; got {impl.multiples}")


def _checked(run: Run, p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Results of a registered function; TypeError or ValueError if the next layer could not take them for its own."""
    results: Any = run(p, inputs)
    if not (isinstance(results, tuple) and len(results) == 2 and isinstance(results[1], tuple)):
        raise TypeError(f"run(p, inputs): expected (out, (h, c, h_hat, c_hat)), got {results!r:.100}")
    x, start, values = inputs.x, inputs.start, (results[0], *results[1])
    expected = [(*x.shape[:-1], start.h.shape[-1]), *(tuple(part.shape) for part in start)]
    shapes = [tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__ for value in values]
    if shapes != expected:
        raise ValueError(f"run(p, inputs): expected shapes {expected}, got {shapes}")
    for value in values:
        if value.dtype != x.dtype or value.device != x.device:
            got = f"{dtype_name(value.dtype)} on {value.device}"
            raise ValueError(f"run(p, inputs): expected {dtype_name(x.dtype)} on {x.device} as x is, got {got}")
    return results[0], LayerState(*results[1])


def names() -> list[str]:
    """Names of all implementations, whether available here or not, in the order of tables."""
    return [impl.name for impl in IMPLS]


def find(name: str) -> Impl:
    """The row with that name; ValueError lists the names that exist."""
    for impl in IMPLS:
        if impl.name == name:
            return impl
    raise ValueError(f"impl: expected {AUTO!r} or one of {', '.join(names())}; got {name!r}")


def why_unavailable(
    name: str, device: torch.device | str, dtype: torch.dtype = torch.float32, options: Iterable[str] = ()
) -> str | None:
    """None if the implementation runs on device in dtype with options such as "layer_norm", else the reason.

    An experimental implementation runs if it is named.
    ValueError if the name or an option is unknown, TypeError if dtype is not a dtype.
    """
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype: expected a torch.dtype, got {dtype!r}")
    options = list(options)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ValueError(f"options: expected some of {', '.join(OPTIONS)}; got {', '.join(unknown)}")
    return find(name).why_unavailable(torch.device(device), dtype, options)


def differentiated_by_autograd() -> str:
    """Names of the implementations without a hand-written gradient, for error messages."""
    return ", ".join(impl.name for impl in IMPLS if not impl.hand_written)


_preference = attrgetter("preference")


@constant
def _by_preference(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Names that "auto" may take, preferred ones first; strings, since torch.compile cannot treat rows as constants."""
    taken = []
    for impl in sorted(IMPLS, key=_preference, reverse=True):
        if not impl.experimental and not (impl.interpreted_on and impl.interpreted(device)):
            taken.append(impl.name)
    return taken


@constant_once
def _warn_of_fallback(reason: str, chosen: str) -> None:
    """Warn, once a process, that "auto" takes another than the fastest, which could not be built or loaded."""
    text = f"{reason} Until then impl={AUTO!r} runs {chosen!r}, which is slower."
    warnings.warn(text, RuntimeWarning, stacklevel=level_of_caller())


@constant_once
def _mention_experimental(chosen: str, device: torch.device, dtype: torch.dtype, options: tuple[str, ...]) -> None:
    """Warn, once a process, of an experimental implementation that would run on a GPU where "auto" takes another."""
    for impl in IMPLS:
        if impl.experimental and impl.why_unavailable(device, dtype, options) is None:
            _warn_of_experimental(impl.name, chosen)


@cache
def _warn_of_experimental(name: str, chosen: str) -> None:
    text = (
        f"impl={AUTO!r} runs {chosen!r} on this GPU. impl={name!r} is expected to be faster, but is experimental: "
        "there are no results of it on a GPU yet. `nox -s cuda`, in a checkout, says whether it is right on this one."
    )
    warnings.warn(text, UserWarning, stacklevel=level_of_caller())


def compiled_at_first_call(device: torch.device, dtype: torch.dtype, options: Iterable[str] = ()) -> str | None:
    """Name of the implementation that "auto" prefers if the first call would compile it, else None."""
    for candidate in _by_preference(device, dtype):
        impl = find(candidate)
        if impl.why_unsuited(device, dtype, options) is None:
            return impl.name if impl.compiles_first(device, dtype) else None
    return None


_RECORDED = "is an operator that torch.onnx.export and torch.jit.trace cannot record; these can be recorded"
_TRANSFORMED = "runs neither inside a transform of torch.func nor under forward-mode AD; these do"


def _by_autograd(candidates: list[str], name: str, error: type[Exception], why: str) -> list[str]:
    """The candidates without a hand-written gradient; raises the error if there is none."""
    able = [candidate for candidate in candidates if not find(candidate).hand_written]
    if not able:
        others = differentiated_by_autograd()
        raise error(f"impl={name!r} {why}: {others}, and {AUTO!r}, which then takes one of them.")
    return able


def resolve(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    options: Iterable[str] = (),
    sizes: Mapping[str, int] | None = None,
) -> Impl:
    """The row with that name; for "auto" the preferred one that runs natively here and is not experimental.

    sizes: of the layer, by the letters in `SIZES`.

    While torch.onnx.export or torch.jit.trace records, inside a transform of torch.func, and under forward-mode AD,
    "auto" takes a row without a hand-written gradient. To name another one then raises RuntimeError (recording) or
    NotImplementedError. RuntimeError also gives the reasons if the named row, or for "auto" every row, is unavailable,
    and lists the rows that support such parameters; it is an UnsupportedError if the named row lacks an option or
    a size.
    """
    candidates = [name] if name != AUTO else _by_preference(device, dtype)
    recorded, transformed = is_recorded(), in_transform()
    if recorded:
        candidates = _by_autograd(candidates, name, RuntimeError, _RECORDED)
    if transformed:
        candidates = _by_autograd(candidates, name, NotImplementedError, _TRANSFORMED)
    reasons: list[str] = []
    lost: list[str] = []
    for candidate in candidates:
        impl = find(candidate)
        reason = impl.why_unavailable(device, dtype, options, sizes)
        if reason is None:
            if name == AUTO and lost:
                _warn_of_fallback(lost[0], impl.name)
            if name == AUTO and device.type == "cuda" and not (recorded or transformed):
                _mention_experimental(impl.name, device, dtype, tuple(options))
            return impl
        reasons.append(reason)
        if impl.probe and impl.why_unsuited(device, dtype, options, sizes) is None:
            lost.append(reason)
    untried = [impl for impl in IMPLS if impl.name not in candidates]
    able = [impl.name for impl in untried if impl.why_unsuited(device, dtype, options, sizes) is None]
    message = (
        f"impl={name!r} is unavailable on {device} in {dtype_name(dtype)}: {' '.join(dict.fromkeys(reasons))} "
        f"In {dtype_name(dtype)} on {device.type}: {', '.join(able) or 'none'}."
    )
    if name != AUTO and (lacking := find(name).lacking(options, sizes)):
        raise UnsupportedError(name, lacking, message)
    raise RuntimeError(message)
