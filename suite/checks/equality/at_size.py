"""What is compared at the sizes that `--size` names, as far as it fits into memory."""

from collections.abc import Sequence

import torch

from impls import names
from impls.registry import find
from suite.cases.case import Case
from suite.checks.equality.calls import INFERENCE
from suite.checks.equality.tasks import WIDE_ORACLE, Task, against_wide, dtypes_at_size
from suite.comparison.memory import most_bytes, shortage


def at_sizes(cases: Sequence[Case], dtypes: Sequence[torch.dtype], memory: int) -> list[Task]:
    """Comparisons of every implementation at some sizes, in its dtypes; of these only in `dtypes`, if there are any.

    memory: in bytes. Where its training step does not fit, the forward pass alone is compared, and nothing where that
    of the oracle does not fit.
    """
    most = most_bytes(memory)
    tasks = []
    for case in dict.fromkeys(cases):  # a person may name a size twice
        for name in names():
            for dtype in dtypes_at_size(find(name)):
                if not dtypes or dtype in dtypes:
                    tasks.append(_at_size(name, case, dtype, most))
    return tasks


def _at_size(name: str, case: Case, dtype: torch.dtype, most: int) -> Task:
    trained = against_wide(case, dtype)
    of_oracle = shortage(WIDE_ORACLE, case, torch.float64, most)
    if of_oracle:
        return Task(name, trained, of_oracle._replace(of_oracle=True))
    lacking = shortage(name, case, dtype, most)
    if lacking and not shortage(name, case, dtype, most, training=False):
        return Task(name, against_wide(case, dtype, INFERENCE))
    return Task(name, trained, lacking)
