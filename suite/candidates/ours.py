"""Our implementations as candidates, of this checkout or of another one."""

import os
import sys
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch

import impls
from impls import registry
from suite.candidates.candidate import Candidate, with_random_weights
from suite.comparison.draws import implementation

#: Environment variable with a folder whose `impls` is timed instead of this checkout's.
BASE = "HYPERLSTM_BASE"


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


def candidate_of(name: str) -> Candidate:
    """An implementation of the registry as a candidate."""

    def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
        if impl.interpreted(device):
            return f"{name} would run in Triton's interpreter, whose speed says nothing."
        # Of another revision only HyperLSTM is used: what cannot run there fails.
        return impls.why_unavailable(name, device, dtype) if package is impls else None

    impl, package = registry.find(name), timed_package()
    build = implementation(name, package.HyperLSTM)
    return Candidate(
        name,
        partial(with_random_weights, build),
        layer_norms=(False, True) if "layer_norm" in impl.options else (False,),
        lacks=frozenset({*registry.OPTIONS} - impl.options - {"layer_norm"}),
        multiples=impl.multiples,
        why_unavailable=why_not,
        modules=("triton",) if impl.triton else (),
        devices=impl.devices,
    )
