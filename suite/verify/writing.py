"""Rows of a verification in the tables of a machine's results, which only the checks know all values of."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from impls.definition import dtype_name
from impls.registry import IMPLS, ORACLE
from suite import report
from suite.cases.verification import MULTIPLIED
from suite.checks.equality.catalogue import every_comparison, every_id
from suite.checks.equality.tasks import WIDE_ORACLE, Task
from suite.checks.faults.faults import FAULTS
from suite.checks.kernels import TRITON, interpreted
from suite.checks.module.capabilities import CAPABILITIES, in_default_run
from suite.handed_in import OUTCOMES
from suite.results.names import TableName
from suite.results.provenance import stale
from suite.results.tables import TABLES, VALUES, Table, folder_of

#: Values of keys of tables in order, with those that only the checks know.
CHECKED: Mapping[str, Sequence[str]] = {
    **VALUES,
    "edit": [planted.fault.name for planted in FAULTS],
    "oracle": [ORACLE, WIDE_ORACLE],
    "case": [*MULTIPLIED, *every_id(), *(comparison.id for comparison in interpreted.SOME.values())],
    "capability": list(CAPABILITIES),
}


def _thorough_alone() -> Mapping[str, Collection[tuple[Hashable, ...]]]:
    """By table, the keys of rows that no default run makes."""
    verify, capabilities = TABLES[TableName.VERIFY], TABLES[TableName.CAPABILITIES]
    compared = defaultdict[bool, set[tuple[Hashable, ...]]](set)
    of_interpreter = [Task(TRITON, comparison) for comparison in interpreted.SOME.values()]
    for task in (*every_comparison(), *of_interpreter):
        comparison = task.comparison
        row = {"implementation": task.name, "dtype": dtype_name(comparison.dtype)}
        row |= {"case": comparison.id, "oracle": comparison.oracle.name}
        compared[comparison.default].add(verify.key_of(row))
    cells = set[tuple[Hashable, ...]]()
    for title, impl in product(CAPABILITIES, IMPLS):
        if not in_default_run(impl, title):
            cells.add(capabilities.key_of({"capability": title, "implementation": impl.name}))
    return {verify.name: compared[False] - compared[True], capabilities.name: cells}


#: Its result, for all tables that are written.
THOROUGH_ALONE = _thorough_alone()


def up_to_date(table: Table, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a file, without stale ones that no default run makes: of thorough runs, and of named sizes.

    They would stay stale until such a run. One that failed stays, as nothing shows that it would pass now.
    """
    outcome, failed = OUTCOMES[table.name]
    thorough = THOROUGH_ALONE.get(table.name, ())
    leaves = pd.Series([table.key_of(row) in thorough for row in rows.to_dict("records")], rows.index, dtype=bool)
    for flag in table.free_if.values():
        leaves |= rows[flag]
    passed = rows[leaves & (rows[outcome] != failed)]
    return rows.drop(passed.index[stale(table.name, passed)])


def write(results: Path, device: torch.device, tables: Mapping[TableName, pd.DataFrame]) -> list[report.MachinePage]:
    """Put rows of checks on a device into the results, and return the pages that were written about them.

    ResultsError says what could not be read or written.
    """
    folders = dict[Path, None]()
    for name, rows in tables.items():
        table = TABLES[name]
        ran_on = torch.device("cpu") if table.on_cpu else device
        folder = folder_of(results, ran_on)
        table.put(folder, rows.to_dict("records"), ran_on, CHECKED, partial(up_to_date, table))
        folders[folder] = None
    return [page for folder in folders for page in report.write_machine(folder)]
