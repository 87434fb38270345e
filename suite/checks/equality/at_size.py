"""What is compared at the sizes that `--size` names, as far as it fits into memory."""

from collections.abc import Sequence

import torch

from impls import names
from impls.registry import find
from suite.cases.case import Case
from suite.checks.equality.calls import INFERENCE
from suite.checks.equality.tasks import WIDE_ORACLE, Comparison, against_wide, dtypes_at_size
from suite.comparison.memory import most_bytes, shortage


def at_sizes(cases: Sequence[Case], dtypes: Sequence[torch.dtype], memory: int) -> list[tuple[str, Comparison, str]]:
    """Comparisons of every implementation at some sizes, in its dtypes; of these only in `dtypes`, if there are any.

    Each with why it is not made, "" if it is. memory: in bytes. Where its training step does not fit, the forward pass
    alone is compared, and nothing where that of the oracle does not fit.
    """
    most = most_bytes(memory)
    compared = []
    for case in dict.fromkeys(cases):  # a person may name a size twice
        of_oracle = shortage(WIDE_ORACLE, case, torch.float64, most)
        for name in names():
            for dtype in dtypes_at_size(find(name)):
                if dtypes and dtype not in dtypes:
                    continue
                comparison, lacking = against_wide(case, dtype), shortage(name, case, dtype, most)
                if of_oracle:
                    lacking = of_oracle._replace(of_oracle=True)
                elif lacking and not shortage(name, case, dtype, most, training=False):
                    comparison, lacking = against_wide(case, dtype, INFERENCE), None
                compared.append((name, comparison, str(lacking or "")))
    return compared
