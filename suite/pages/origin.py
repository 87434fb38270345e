"""Where, when and with which code the rows of a page were made."""

from collections.abc import Mapping

import pandas as pd

from suite.pages.markdown import Markdown, escaped
from suite.results.format import ENVIRONMENT, SOFTWARE, dates, machine
from suite.results.names import TableName
from suite.results.provenance import stale
from suite.results.tables import STAMP


def origin(tables: Mapping[TableName, pd.DataFrame]) -> Markdown:
    """Where and when rows were made, a line for each environment, and which depend on code that has changed since.

    tables: rows by the name of their table.
    """
    columns = [*STAMP, "implementation", "stale"]  # which some tables lack
    parts = []
    for name, rows in tables.items():
        marked = rows.assign(stale=stale(name, rows))
        parts.append(marked.reindex(columns=columns, fill_value=""))
    every = pd.concat(parts, ignore_index=True)
    lines = []
    for _, group in every.groupby(list(ENVIRONMENT), sort=False):
        row = group.iloc[0]
        versions = "torch {torch}, Python {python}, CPU instructions {cpu_capability}".format_map(row)
        commits = _commits(group)
        word = "commit" if len(commits) == 1 else "commits"
        of_commits = f"{word} {' and '.join(commits)}"
        made = f"Made on {machine(row)}, {dates(group)}: {versions}{_used(group)}"
        lines.append(f"{escaped(made)}, {of_commits}.")
    old = every[every["stale"]]
    if len(old):
        names = ", ".join(filter(None, old["implementation"].unique()))
        which = escaped(f"(of {names})") + " " if names else ""
        lines.append(f"**Stale**: {len(old)} of {len(every)} rows {which}depend on code that has changed since.")
    return Markdown("\n".join(lines))


def _commits(rows: pd.DataFrame) -> list[Markdown]:
    """Markdown of the commits of rows, and which had changes."""
    made_by = rows[["commit", "dirty"]].drop_duplicates()
    return [
        Markdown(f"`{commit or 'unknown'}`{' with changes' if dirty else ''}")
        for commit, dirty in made_by.itertuples(index=False)
    ]


def _used(rows: pd.DataFrame) -> str:
    """What some of the rows used, such as ", compiler c++ 12.2"."""
    text = ""
    for column, name in SOFTWARE.items():
        versions = [version for version in rows[column].unique() if version]
        if versions:
            text += f", {name} {' and '.join(versions)}"
    return text
