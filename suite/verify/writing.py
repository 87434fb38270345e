"""Rows of a verification in the tables of a machine's results, which only the checks know all values of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from suite import report
from suite.cases.verification import MULTIPLIED
from suite.checks.equality.catalogue import every_id
from suite.checks.faults.faults import FAULTS
from suite.checks.kernels import interpreted
from suite.checks.module.capabilities import CAPABILITIES
from suite.results.tables import TABLES, VALUES, folder_of

#: Values of keys of tables in order, with those that only the checks know.
CHECKED: Mapping[str, Sequence[str]] = {
    **VALUES,
    "edit": [planted.fault.name for planted in FAULTS],
    "case": [*MULTIPLIED, *every_id(), *(comparison.id for comparison in interpreted.SOME.values())],
    "capability": list(CAPABILITIES),
}


def write(
    results: Path, device: torch.device, tables: Mapping[str, pd.DataFrame], *, sizes_are_named: bool = False
) -> list[report.MachinePage]:
    """Put rows of checks on a device into the results, and return the pages that were written about them.

    sizes_are_named: a person named the sizes, so that cases are of any and none is of what no longer exists.
    ResultsError says what could not be read or written.
    """
    values = dict(CHECKED)
    if sizes_are_named:
        del values["case"]
    folders = dict[Path, None]()
    for name, rows in tables.items():
        table = TABLES[name]
        ran_on = torch.device("cpu") if table.on_cpu else device
        folder = folder_of(results, ran_on)
        table.put(folder, rows.to_dict("records"), ran_on, values)
        folders[folder] = None
    return [page for folder in folders for page in report.write_machine(folder)]
