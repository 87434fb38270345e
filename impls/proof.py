"""Marks in the user's cache of GPUs that passed the checks of a GPU: "auto" takes there what these verified."""

import hashlib
import json
import os
import re
from pathlib import Path

import torch

#: What the kernel's module says of itself; torch only knows the version of CUDA.
DRIVER = Path("/proc/driver/nvidia/version")


def driver() -> str:
    """Version of the driver of NVIDIA's GPUs; where its file is not, or has none, that of the CUDA that it brings."""
    version = re.search(r"\d+\.[\d.]+", DRIVER.read_text()) if DRIVER.exists() else None
    if version:
        return version[0]
    number = torch._C._cuda_getDriverVersion()  # type: ignore[attr-defined]
    return f"CUDA {number // 1000}.{number % 1000 // 10}"


def conditions(device: torch.device) -> dict[str, str]:
    """What a mark holds for: the GPU, its software and these sources."""
    import triton

    card, digest = torch.cuda.get_device_properties(device), hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return {
        "card": card.name,
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": str(card.multi_processor_count),  # cards of one name may differ in these
        "driver": driver(),
        "torch": torch.__version__,
        "Triton": triton.__version__,
        "sources": digest.hexdigest(),
    }


def path(name: str, device: torch.device) -> Path:
    """The file of an implementation's mark under the conditions that there are now; the mark holds if the file exists.

    Other conditions have other files, so that neither environments nor machines with one home undo each other's marks.
    """
    now = conditions(device)
    digest = hashlib.sha256(json.dumps(now).encode()).hexdigest()[:16]
    card = "".join(c if c.isalnum() else "-" for c in now["card"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperlstm" / f"{name}-{card}-{digest}"


def why_unverified(name: str, device: torch.device) -> str | None:
    """None if a mark holds here, else the reason in a sentence, with what to run."""
    how = (
        "run `python -m suite.checks.triton.native` in a checkout with this Python; `nox -s cuda` verifies only "
        "nox's own environment."
    )
    try:
        if path(name, device).exists():
            return None
        card = torch.cuda.get_device_properties(device).name
    except Exception as error:  # a cache that cannot be read must not end a call
        return f"The mark of {name} cannot be read ({type(error).__name__}: {error}): {how}"
    return f"{name} has not been verified on this {card} with this driver, torch, Triton and these sources: {how}"
