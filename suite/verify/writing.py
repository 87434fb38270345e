"""Rows of a verification in the tables of a machine's results, which only the checks know all values of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from impls.registry import ORACLE
from suite import report
from suite.cases.verification import MULTIPLIED
from suite.checks.equality.catalogue import every_id
from suite.checks.equality.comparison import WIDE_ORACLE
from suite.checks.faults.faults import FAULTS
from suite.checks.kernels import interpreted
from suite.checks.module.capabilities import CAPABILITIES
from suite.results.tables import TABLES, VALUES, folder_of

#: Values of keys of tables in order, with those that only the checks know.
CHECKED: Mapping[str, Sequence[str]] = {
    **VALUES,
    "edit": [planted.fault.name for planted in FAULTS],
    "oracle": [ORACLE, WIDE_ORACLE],
    "case": [*MULTIPLIED, *every_id(), *(comparison.id for comparison in interpreted.SOME.values())],
    "capability": list(CAPABILITIES),
}


def write(results: Path, device: torch.device, tables: Mapping[str, pd.DataFrame]) -> list[report.MachinePage]:
    """Put rows of checks on a device into the results, and return the pages that were written about them.

    ResultsError says what could not be read or written.
    """
    folders = dict[Path, None]()
    for name, rows in tables.items():
        table = TABLES[name]
        ran_on = torch.device("cpu") if table.on_cpu else device
        folder = folder_of(results, ran_on)
        table.put(folder, rows.to_dict("records"), ran_on, CHECKED)
        folders[folder] = None
    return [page for folder in folders for page in report.write_machine(folder)]
