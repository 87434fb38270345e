"""Name of this machine in tables and paths, and versions of its software; never its host name or a path."""

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import cpuinfo
import torch

from impls.registry import why_no_code
from suite.shared.devices import DeviceType
from suite.shared.text import in_one_line

#: Processor flags of the instruction sets that multiply bfloat16, by name: two of x86-64, one of aarch64.
INSTRUCTIONS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16", "BF16": "bf16"}

#: Variable that hides GPUs from CUDA.
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: The default of `--device`, of which `device_of` says what it is here.
DEFAULT = "default"


def default_device() -> torch.device:
    """First CUDA device if there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def device_of(text: str) -> torch.device:
    """Device of that name, with a number if it is a GPU, which parts of torch require; `DEFAULT`: the default device.

    ArgumentTypeError unless it is a CPU or a GPU, whether here or not, see `why_missing`; and by default where torch
    does not see a GPU that is here, so that no command takes the CPU for it.
    """
    if text == DEFAULT:
        unseen = unseen_gpu()
        if unseen:
            raise argparse.ArgumentTypeError(f"{unseen} With --device cpu, the command takes the CPU.")
        return default_device()
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, or a GPU by its number such as cuda:1; got {text!r}")
    device = torch.device(text)
    return torch.device("cuda", 0) if device.type == DeviceType.CUDA and device.index is None else device


def unseen_gpu() -> str | None:
    """A sentence with versions if nvidia-smi lists a GPU and torch sees none, else None."""
    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=120)
    if listed.returncode or not listed.stdout.strip():
        return None
    name, version = listed.stdout.splitlines()[0].rsplit(", ", 1)
    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    reasons = [f"{VISIBLE} is {os.environ[VISIBLE]!r}."] if VISIBLE in os.environ else []
    try:
        torch.cuda.init()
    except Exception as error:  # of a torch for the CPU, of a driver, of permissions: each another type
        reasons.append(f"torch says: {in_one_line(error)}")
    sentence = f"torch {torch.__version__}, made for {made_for}, does not see the {name} with driver {version}."
    return " ".join([sentence, *reasons])


def why_missing(device: torch.device) -> str | None:
    """Sentence that says that this machine has no such GPU, or torch no code for it; None if it has the device."""
    if device.type != DeviceType.CUDA:
        return None
    here = torch.cuda.device_count()
    if device.index < here:
        return why_no_code(device)
    gpus = {0: "no GPU", 1: "1 GPU"}.get(here, f"{here} GPUs")
    return f"--device: torch sees {gpus} here, so there is no {device}"


@cache
def name(device: torch.device) -> str:
    """Name of the processor, with the instructions that decide how fast it multiplies.

    Virtual machines mask the number of the model, so that two of one name may differ in these.
    """
    if device.type == DeviceType.CUDA:
        return torch.cuda.get_device_name(device)
    info = cpuinfo.get_cpu_info()
    brand = str(info.get("brand_raw", platform.machine())).split("@")[0].strip()
    sets = [instructions for instructions, flag in INSTRUCTIONS.items() if flag in info.get("flags", ())]
    return f"{brand} ({', '.join(sets)})" if sets else brand


def exclusive(device: torch.device) -> bool:
    """True if a GPU takes one process at a time, as nvidia-smi says of it; torch does not know.

    Without nvidia-smi it is taken for one that several processes share, the default of NVIDIA's driver.
    """
    if device.type != DeviceType.CUDA or shutil.which("nvidia-smi") is None:
        return False
    gpu = f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"  # numbers depend on which GPUs are visible
    query = ["nvidia-smi", gpu, "--query-gpu=compute_mode", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip() == "Exclusive_Process"


def without_trademarks(product: str) -> str:
    """The name of a product without (R) and (TM)."""
    return re.sub(r"\((R|TM)\)", "", product, flags=re.IGNORECASE)


def slug(device: torch.device) -> str:
    """Folder name for results: the GPU's name, or the CPU's, the instructions that torch uses, and its threads."""
    words = name(device)
    if device.type != DeviceType.CUDA:
        words += f" {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    return re.sub(r"[^a-z0-9]+", "-", without_trademarks(words).lower()).strip("-")


def versions(device: torch.device) -> dict[str, str]:
    """Versions of what compiles or computes beside torch, by name: compiler, Triton, driver and cuDNN."""
    found = {"compiler": compiler(os.environ.get("CXX", "").strip() or "c++"), "triton": _installed("triton")}
    if device.type == DeviceType.CUDA:
        found |= {"driver": driver(), "cudnn": str(torch.backends.cudnn.version() or "")}
    return {name: version for name, version in found.items() if version}


def driver() -> str:
    """Version of the driver of NVIDIA's GPUs as its kernel module says; where its file is not, that of its CUDA."""
    module = Path("/proc/driver/nvidia/version")
    version = re.search(r"\d+\.[\d.]+", module.read_text()) if module.exists() else None
    if version:
        return version[0]
    number = torch._C._cuda_getDriverVersion()  # type: ignore[attr-defined]
    return f"CUDA {number // 1000}.{number % 1000 // 10}"


@cache
def compiler(command: str) -> str:
    """First line of what a compiler says about its version, without paths; "" if it does not run."""
    try:
        words = [*shlex.split(command), "--version"]
        # Whatever the locale is, which may not be that of the compiler.
        output = subprocess.check_output(words, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace")
    except (OSError, subprocess.CalledProcessError, ValueError):  # ValueError of an open quotation
        return ""
    return " ".join(word for word in output.partition("\n")[0].split() if os.sep not in word)


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
