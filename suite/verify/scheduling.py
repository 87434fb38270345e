"""How xdist hands out tests: those of a file go to one process, and a crash loses the test that crashed alone.

After a crash, xdist's own scheduler hands out finished tests again, and then waits for them forever.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


class Scheduling(LoadScopeScheduling):
    """The tests of a file in one process; after a crash, the one that replaces it takes those that have not run."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what a process has not run; return the test in which it crashed, or None if it had none left."""
        units = self.assigned_work.pop(node)
        left = [(scope, test) for scope, tests in units.items() for test, ran in tests.items() if not ran]
        if not left:
            return None
        scope, crashed = left[0]
        units[scope][crashed] = True
        self.workqueue.update({name: tests for name, tests in units.items() if not all(tests.values())})
        return crashed


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Schedule as above where xdist would keep the tests of a file together."""
    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None
