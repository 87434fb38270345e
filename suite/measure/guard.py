"""Finds what a file of `--impl` replaced of that with which it is measured: the clock, torch's functions, the suite.

It shares a process with the suite, so it could; a sandbox this is not.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from pytest_benchmark.stats import Stats

from suite.measure.job import RefusedError

#: Packages whose functions, classes, modules and constants must stay, and whose classes' attributes must.
OWN = ("suite", "impls")
#: Further modules whose functions, classes and modules must stay, and classes whose attributes must.
WATCHED = (
    *("builtins", "time", "gc", "os", "threading", "random", "multiprocessing.connection", "numpy"),
    *("torch.cuda", "torch.autograd", "torch._VF", "torch.nn.modules.rnn", "torch.nn.utils.rnn", "torch.nn.functional"),
)
#: What is used of torch itself, of which torch.compile replaces some other functions.
TORCH = (
    *("randn", "randn_like", "Generator", "no_grad", "enable_grad", "is_grad_enabled", "set_grad_enabled"),
    *("_foreach_add_", "zeros_like", "float64", "float32", "bfloat16", "device", "get_num_threads", "ops", "_C"),
    "default_generator",
)
CLASSES = (torch.Tensor, torch.nn.Module, torch.nn.RNNBase, torch.nn.LSTM, torch.Generator, Stats)
#: Stands for the value of what a class inherits.
_MISSING = object()


class Attribute(NamedTuple):
    """What must stay: its name in sentences, the namespace that has it, its key there, and its value."""

    name: str
    namespace: Mapping[str, Any]
    key: str
    value: object


class Setting(NamedTuple):
    """A setting that both sides have: its name in sentences, how it is read, and its value."""

    name: str
    read: Callable[[], object]
    value: object


def guard() -> Callable[[], None]:
    """Return a function that raises RefusedError if something was replaced or set since.

    That function calls nothing by a name that the file could replace.
    """
    attributes = list(_attributes())
    codes = []
    for attribute in attributes:
        if isinstance(attribute.value, FunctionType):
            codes.append((attribute.name, attribute.value, attribute.value.__code__))
    settings = _settings()
    missing = _MISSING
    refused = RefusedError

    def check() -> None:
        for name, namespace, key, value in attributes:
            if namespace.get(key, missing) is not value:
                raise refused(f"the file replaced {name}, with which it is measured")
        for name, function, code in codes:
            if function.__code__ is not code:
                raise refused(f"the file changed {name}, with which it is measured")
        for name, read, value in settings:
            if read() != value:
                raise refused(f"the file changed {name} from {value} to {read()}, for the baseline too")

    return check


def _attributes() -> Iterator[Attribute]:
    """All that must stay."""
    for name, module in sorted(sys.modules.items()):
        ours = name.split(".")[0] in OWN
        if module is None or not (ours or name in WATCHED):
            continue
        namespace = vars(module)
        for key, value in list(namespace.items()):
            constant = ours and key.isupper()
            if constant or callable(value) or isinstance(value, ModuleType):
                yield Attribute(f"{name}.{key}", namespace, key, value)
            if ours and isinstance(value, type) and value.__module__ == name:
                yield from _of_class(value)
    for cls in CLASSES:
        yield from _of_class(cls)
    namespace = vars(torch)
    for key in TORCH:
        yield Attribute(f"torch.{key}", namespace, key, namespace[key])


def _of_class(cls: type) -> Iterator[Attribute]:
    for key in dir(cls):
        value = vars(cls).get(key, _MISSING)  # of another class, as which it must stay
        if value is _MISSING or callable(value) or isinstance(value, (property, classmethod, staticmethod)):
            yield Attribute(f"{cls.__module__}.{cls.__name__}.{key}", vars(cls), key, value)


def _settings() -> list[Setting]:
    """The settings of both sides."""
    reads: dict[str, Callable[[], object]] = {
        "torch.get_num_threads()": torch.get_num_threads,
        "torch.get_default_dtype()": torch.get_default_dtype,
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision,
        "torch.backends.mkldnn.enabled": torch._C._get_mkldnn_enabled,
        "torch.backends.cudnn.enabled": torch._C._get_cudnn_enabled,
        "torch.backends.cudnn.benchmark": torch._C._get_cudnn_benchmark,
        "torch.are_deterministic_algorithms_enabled()": torch._C._get_deterministic_algorithms,
        "gc.isenabled()": gc.isenabled,
        "sys.getprofile()": sys.getprofile,
        "sys.gettrace()": sys.gettrace,
    }
    if hasattr(os, "sched_getaffinity"):
        reads["the cores of the process"] = lambda: len(os.sched_getaffinity(0))
    return [Setting(name, read, read()) for name, read in reads.items()]
