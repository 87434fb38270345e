"""Options of a verification, declared once for pytest and for the command that starts it."""

from collections.abc import Callable

from impls.definition import dtype_name
from suite.cases.spelling import SPELLING, parse
from suite.comparison.tolerance import DTYPES
from suite.shared import machine
from suite.shared.files import path_of

#: Seconds after which a test or fixture is taken to hang; with `--impl`, where none takes long, fewer.
LONG, SHORT = 1000, 120


def add_options(add: Callable[..., object]) -> None:
    """Add the options of a verification; add: `addoption` of pytest, or `add_argument` of argparse."""
    about = "device to check on; default: CUDA if there is one"
    add("--device", type=machine.device_of, default=machine.DEFAULT, help=about)
    add("--results", type=path_of, help="folder that has a folder of results per machine; default: results/")
    add("--thorough", action="store_true", help="run what is marked `thorough` too")
    add("--impl", type=path_of, nargs="+", action="extend", default=[], help="check implementations in files, alone")
    add("--size", type=parse, nargs="+", action="extend", default=[], help=f"compare at these sizes alone: {SPELLING}")
    dtypes = [dtype_name(dtype) for dtype in DTYPES]
    add("--dtype", choices=dtypes, nargs="+", action="extend", default=[], help="of --size; default: all")


def ending(seconds: float) -> list[str]:
    """Arguments of pytest with which a test that takes longer ends its process."""
    return ["-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true"]
