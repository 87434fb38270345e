"""Checks of `batched_cuda` on a GPU: `python -m suite.checks.triton.native`.

`nox -s cuda` runs it. It takes first what only a GPU can show, in some minutes, with kernels compiled in parallel.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from impls import why_unavailable
from suite.checks.triton import TRITON, ahead
from suite.checks.triton.compiled import precompile
from suite.shared import machine
from suite.shared.devices import DeviceType
from suite.shared.text import in_one_line

#: How often each function of `at_once` is called: a queue of a GPU takes some 1,000 launches before the host waits.
ROUNDS = 10
#: Clocks for which a GPU is held: the host queues for some 0.1 s meanwhile.
HELD = 3_000_000_000

R = TypeVar("R")


def at_once(functions: Sequence[Callable[[], R]], device: torch.device) -> list[list[R]]:
    """Results of functions, each called `ROUNDS` times on a stream of its own, which the GPU runs at the same time.

    It starts when all is queued: the host takes longer to queue a pass than the GPU to run it, so that passes that are
    run as they come never meet. AssertionError if it started before.
    """
    holding, *streams = (torch.cuda.Stream(device) for _ in range(1 + len(functions)))
    torch.cuda.synchronize(device)
    _queue(functions, streams)  # which finds memory for each stream, for which the host may wait
    torch.cuda.synchronize(device)
    released = torch.cuda.Event()
    with torch.cuda.stream(holding):
        torch.cuda._sleep(HELD)
        released.record()
    for stream in streams:
        stream.wait_event(released)
    results = _queue(functions, streams)
    started_early = released.query()
    torch.cuda.synchronize(device)
    assert not started_early, f"the GPU was held for {HELD} clocks, and the host queued for longer"
    return results


def _queue(functions: Sequence[Callable[[], R]], streams: Sequence[torch.cuda.Stream]) -> list[list[R]]:
    results: list[list[R]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, stream, of_function in zip(functions, streams, results, strict=True):
            with torch.cuda.stream(stream):
                of_function.append(function())
    return results


#: Where the tests are.
TESTS = Path(__file__).with_name("test_native.py")


class First(Enum):
    """What `nox -s cuda` shows: it runs the tests that are marked `first` with one of these."""

    FULL_WIDTH = "kernels as large as users run them, in each dtype and TF32"
    FULL_AND_PACKED = "the same, packed and with a mask of g"
    EITHER_SPLIT = "both ways to split a pass"
    PACKED = "packed sequences"
    MASKED = "masks of g"
    SIDE_STREAM = "a stream of the caller's"
    GRAPH = "a CUDA graph"
    NO_SYNC = "no wait for the GPU"
    REFUSED = "a refused launch"
    AT_ONCE = "two passes at once"
    BESIDE = "a pass beside a full card"


#: Variable that hides GPUs from CUDA.
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds after which a test is taken to hang.
LIMIT = 120.0


def unseen_card() -> str | None:
    """A sentence with versions if nvidia-smi lists a GPU and torch sees none, else None."""
    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=LIMIT)
    if listed.returncode or not listed.stdout.strip():
        return None
    name, driver = listed.stdout.splitlines()[0].rsplit(", ", 1)
    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    reasons = [f"{VISIBLE} is {os.environ[VISIBLE]!r}."] if VISIBLE in os.environ else []
    try:
        torch.cuda.init()
    except Exception as error:  # of a torch for the CPU, of a driver, of permissions: each another type
        reasons.append(f"torch says: {in_one_line(error)}")
    return " ".join(
        [f"torch {torch.__version__}, made for {made_for}, does not see the {name} with driver {driver}.", *reasons]
    )


def limited(seconds: float) -> list[str]:
    """Options of pytest: print where a test is that takes longer, and end the process, which frees the GPU."""
    return ["-v", "-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true"]


class Outcomes:
    """Plugin that says whether a run shows all that it should."""

    def __init__(self) -> None:
        self.complete = False
        self.shows: dict[str, First] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what each test shows."""
        for item in session.items:
            for marker in item.iter_markers("first"):
                self.shows[item.nodeid] = marker.args[0]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Note whether no test was skipped or failed, and each of `First` was shown."""
        others = any(terminalreporter.getreports(outcome) for outcome in ("skipped", "failed", "error"))
        shown = {self.shows.get(report.nodeid) for report in terminalreporter.getreports("passed")}
        self.complete = not others and shown >= {*First}


def main(arguments: list[str]) -> int:
    """Run the tests of `First`, with their kernels compiled before, and say whether all passed.

    The status is 0 where there is no GPU, and 1 where there is one that was not checked. arguments: of pytest.
    """
    device = machine.default_device()
    unseen = unseen_card()
    reason = unseen or why_unavailable(TRITON, device)
    if reason is not None:
        print(f"{reason} Not run: {', '.join(first.value for first in First)}.")
        return int(unseen is not None or device.type == DeviceType.CUDA)
    precompile(ahead.of_cuda(), device)
    outcomes = Outcomes()
    options = ["-p", "no:benchmark", *limited(LIMIT), "-m", "first", *arguments]
    status = int(pytest.main([str(TESTS), *options], plugins=[outcomes]))
    if status != 0 or arguments or not outcomes.complete:
        print(f"{TRITON} is not shown to be right on this GPU: not all of its tests passed, or not all ran.")
        return status
    print(f"{TRITON} is right on this GPU. To use it, give impl={TRITON!r}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
