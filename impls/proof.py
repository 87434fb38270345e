"""Marks in the user's cache: on a GPU that passed `nox -s cuda`, "auto" takes the implementation that it verified."""

import hashlib
import json
import os
from pathlib import Path

import torch


def path(name: str, device: torch.device) -> Path:
    """The file of an implementation's mark of a GPU."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    card = "".join(c if c.isalnum() else "-" for c in torch.cuda.get_device_properties(device).name)
    return Path(folder) / "hyperlstm" / f"{name}-{card}.json"


def conditions(device: torch.device) -> dict[str, str]:
    """What a mark contains: the GPU, its software and these sources. It no longer holds when any of them changes."""
    import triton

    card, digest = torch.cuda.get_device_properties(device), hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    module = Path("/proc/driver/nvidia/version")  # torch only knows the version of CUDA
    driver = module.read_text() if module.exists() else str(torch._C._cuda_getDriverVersion())  # type: ignore[attr-defined]
    versions = {"driver": driver, "torch": torch.__version__, "Triton": triton.__version__}
    return {"card": card.name, "capability": f"{card.major}.{card.minor}", **versions, "sources": digest.hexdigest()}


def why_unverified(name: str, device: torch.device) -> str | None:
    """None if a mark holds here, else the reason in a sentence."""
    try:
        mark, now = path(name, device), conditions(device)
        noted = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}
        changed = [key for key in now if noted.get(key) != now[key]]
    except Exception as error:  # a mark that cannot be read must not end a call
        return f"The mark of {name} cannot be read: {type(error).__name__}: {error}. Run `nox -s cuda` in a checkout."
    if changed:
        about = f"with this {', '.join(changed)}" if noted else f"on this {now['card']}"
        return f"{name} has not been verified {about}: run `nox -s cuda` in a checkout."
    return None
