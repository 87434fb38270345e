"""Name of this machine in tables and paths; never its host name."""

import platform
import re
from functools import cache

import cpuinfo
import torch


def default_device() -> torch.device:
    """First CUDA device if there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def device_of(text: str) -> torch.device:
    """Device of that name, with a number if it is a GPU, which parts of torch require."""
    device = torch.device(text)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


@cache
def name(device: torch.device) -> str:
    """Name of the processor, with family and model if it has no number, such as "AMD EPYC" on a virtual machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = cpuinfo.get_cpu_info()
    brand = str(info.get("brand_raw", platform.machine()))
    numbers = [f"{column} {info[column]}" for column in ("family", "model") if column in info]
    if re.search(r"\d", brand.split("@")[0]) or not numbers:
        return brand
    return f"{brand} ({', '.join(numbers)})"


def slug(device: torch.device) -> str:
    """Folder name for results: the GPU's name, or the CPU's, its vector instructions and threads."""
    words = name(device)
    if device.type != "cuda":
        words += f" {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", words.lower())).strip("-")
