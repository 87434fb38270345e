"""What other processes do beside a visit is told from what the visit does."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from suite.measure import other_processes
from suite.measure.other_processes import BUSY, share_now, share_since


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the machine 4 cores and a clock, and return a list whose last number is the seconds that they were busy."""
    busy = [100.0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(other_processes, "busy_s", lambda: busy[-1])
    monkeypatch.setattr(other_processes, "monotonic", lambda: 10.0 * len(busy))
    return busy


def test_a_share_is_of_what_this_process_and_its_servers_did_not_do(
    busy: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [3.0]
    # Children are counted apart.
    times = SimpleNamespace(system=1.0, children_user=50.0, children_system=50.0)
    monkeypatch.setattr(os, "times", lambda: SimpleNamespace(**vars(times), user=own[-1]))
    share = share_since(20.0)
    busy.append(130.0)  # 30 seconds of 4 cores within 10
    own.append(5.0)
    assert share(24.0) == pytest.approx((30 - 2 - 4) / 40)
    assert share(90.0) == 0.0


def test_what_waits_is_idle_and_what_the_host_took_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the cores that this process may use, which in a container or under taskset are few of the machine's."""
    times = SimpleNamespace(_asdict=lambda: {"user": 5.0, "idle": 90.0, "iowait": 40.0, "guest": 2.0, "steal": 3.0})
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times] * 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3}, raising=False)
    assert other_processes.busy_s() == 2 * (5.0 + 3.0)


def test_a_busy_machine_is_seen_at_once() -> None:
    share = share_since()
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(len(os.sched_getaffinity(0)))]
    try:
        assert share_now(0.3) > BUSY
        assert share(0.0) > BUSY
    finally:
        for process in processes:
            process.kill()
            process.wait()
