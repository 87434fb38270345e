"""A page of a machine's results: text, tables and plots made of the rows of its CSV files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from suite.pages.plots import svg
from suite.pages.sheets import Part, Plot, markdown
from suite.shared.files import write_whole
from suite.shared.format import machine, origin, sizes
from suite.shared.tables import BUSY, STAMP, TABLES

#: Rows of other tables that a page shows, by name; only those that the machine has.
Others = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Page:
    """One page, `<name>.md`, made of `<name>.csv`.

    parts: the first is the lead, which comes before the line on where and when the rows were made.
    others: further tables that the page shows.
    study: the page shows the workload and dtype that were studied last: the rows that have figures, and which do not.
    """

    name: str
    title: str
    parts: Callable[[pd.DataFrame, Others], list[Part]]
    others: tuple[str, ...] = ()
    study: bool = False

    def content(self, rows: pd.DataFrame, others: Others = MappingProxyType({})) -> list[Part]:
        rows = rows.merge(rows[["workload", "dtype"]].tail(1)) if self.study else rows
        measured = rows[rows["status"] == "ok"] if self.study else rows
        every = {self.name: rows, **others}
        stamps = origin(pd.concat(_stamps(table, TABLES[name].rests_on) for name, table in every.items()))
        lead, *rest = self.parts(measured, others) if len(measured) else ["Nothing was measured."]
        files = f"All rows: {', '.join(f'[{name}.csv]({name}.csv)' for name in every)}."
        end = unfinished(rows) + files if self.study else files
        return [f"# {self.title}: {machine(rows.iloc[0])}", lead, stamps, *rest, end]

    def read(self, folder: Path) -> list[Part]:
        """Parts of the page of a machine's folder, none if it has no rows; ResultsError if a file is damaged."""
        rows = TABLES[self.name].read(folder)
        if rows.empty:
            return []
        return self.content(rows, {name: others for name in self.others if len(others := TABLES[name].read(folder))})

    def write(self, folder: Path, parts: Sequence[Part]) -> list[Path]:
        """Write the Markdown and the committed plots of parts, if there are any, into a folder; return the files."""
        plots = [part for part in parts if isinstance(part, Plot) and part.committed]
        texts = {f"{plot.name}.svg": svg(plot.draw()) for plot in plots}
        if parts:
            texts[f"{self.name}.md"] = markdown(parts)
        for name, text in texts.items():
            write_whole(folder / name, text)
        return [folder / name for name in texts]


def _stamps(rows: pd.DataFrame, rests_on: str) -> pd.DataFrame:
    """Where and when rows were made, and the sources that they depend on."""
    rows = rows if "implementation" in rows else rows.assign(implementation=rests_on)
    stamps: pd.DataFrame = rows[[*STAMP, "implementation"]]
    return stamps


def about(row: pd.Series, dims: str = "TBIHSZL") -> str:
    """Workload of a row, with its sizes and dtype."""
    return f"{row['workload']} ({sizes(row, dims)}), {row['dtype']}"


def unfinished(rows: pd.DataFrame) -> str:
    """Rows of a study that were slowed by other processes or did not finish, in sentences; empty if there are none."""
    slowed = rows[rows["taken_cores"] > BUSY] if "taken_cores" in rows else rows[:0]
    parts = ", ".join(dict.fromkeys(slowed["varied"]))
    first = f"Not reliable, because other processes used the cores: {parts}.\n" if parts else ""
    failures = rows[~rows["status"].isin(["ok", "out of memory"])]
    named = map("{varied}, {implementation}, layer norm {layer_norm}: {status}".format_map, failures.to_dict("records"))
    return first + (f"Not complete: {'; '.join(named)}.\n" if len(failures) else "")
