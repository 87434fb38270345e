"""What a file replaces of that with which it is measured is found, and what torch or a file does otherwise is not."""

import gc
import os
import random
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.stats import Stats

from suite import bench
from suite.candidates import submission
from suite.comparison import tolerance
from suite.measure import job, runner, timing, work
from suite.measure.guard import guard
from suite.measure.job import RefusedError
from suite.shared import process

REPLACED: list[tuple[Any, str]] = [
    (time, "perf_counter"), (time, "time"), (gc, "collect"), (random, "random"), (os, "fork"), (torch, "randn"),
    (torch, "_foreach_add_"), (torch.Tensor, "norm"), (torch.Tensor, "double"), (torch.cuda, "synchronize"),
    (torch.nn.LSTM, "forward"), (torch.nn.Module, "__call__"), (Stats, "update"), (timing, "perf_counter"),
    (timing, "np"), (timing.Turns, "take"), (timing.Stopwatch, "seconds"), (work, "wrong"), (tolerance, "judge"),
    (tolerance.Judgement, "ratio"), (job, "RefusedError"), (import_module("impls.deferred"), "run"),
    (sys.modules["suite.measure.guard"], "guard"), (runner, "median"), (tolerance, "LIMITS"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), REPLACED, ids=[f"{owner.__name__}.{name}" for owner, name in REPLACED])
def test_what_is_replaced_is_named(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = guard()
    check()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *_: None)
        with pytest.raises(RefusedError, match=rf"^the file replaced \S*{name}, with which it is measured$"):
            check()
    check()


def test_code_and_settings_that_change_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check, code = guard(), work.wrong.__code__
    work.wrong.__code__ = (lambda candidate, case, name, call: "").__code__
    with pytest.raises(RefusedError, match=r"^the file changed suite\.measure\.work\.wrong, with which"):
        check()
    work.wrong.__code__ = code
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with pytest.raises(RefusedError, match=rf"torch\.get_num_threads\(\) from {threads} to {threads + 1}, for the"):
        check()
    torch.set_num_threads(threads)
    monkeypatch.setattr(sys, "setprofile", sys.setprofile)
    (gc.disable if gc.isenabled() else gc.enable)()
    with pytest.raises(RefusedError, match=r"gc\.isenabled\(\)"):
        check()
    (gc.disable if gc.isenabled() else gc.enable)()
    check()


def test_what_later_imports_and_calls_do_is_no_cheat(tmp_path: Path) -> None:
    """In a new process, where they have not happened yet."""
    (tmp_path / "of_imports.py").write_text(
        "import torch\n"
        "from suite.measure import server\n"
        "from suite.measure.guard import guard\n"
        "check = guard()\n"
        "import torch._dynamo, torch._inductor.compile_fx, torch.distributed, labml_nn.hypernetworks.hyper_lstm\n"
        "from suite.candidates.catalogue import candidates\n"
        "from suite.cases.workloads import WORKLOADS\n"
        "from dataclasses import replace\n"
        "for one in candidates():\n"
        "    if one.name in ('batched_cpu', 'deferred', 'torch.nn.LSTM'):\n"
        "        case = replace(WORKLOADS['small'].case, T=2)\n"
        "        given = server.work.example(case, torch.float32, torch.device('cpu'))\n"
        "        server.work.Training(one.build(case, torch.float32, torch.device('cpu')))(given)\n"
        "check()\n"
    )
    process.run("of_imports", PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))


def test_a_file_that_replaces_what_judges_it_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_all(*_: Any) -> list[str]:
        monkeypatch.setattr("suite.measure.roofline.share", lambda *_: {})
        return ["mine"]

    monkeypatch.setattr(submission, "load_all", load_all)
    with pytest.raises(SystemExit, match=r"^--impl: the file replaced suite\.measure\.roofline\.share, with which"):
        bench.main(["--device", "cpu", "--results", str(tmp_path), "--impl", str(tmp_path / "mine.py")])
