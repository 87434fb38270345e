"""The figure and the table of README.md, made of the results of one machine."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from impls.registry import IMPLS, Impl
from suite.pages.bench import WORKLOAD, readme_rows, training_caption
from suite.pages.bench_tables import headline
from suite.pages.page import Part, Sheet, markdown
from suite.shared.cases import BASELINE
from suite.shared.files import ROOT
from suite.shared.format import dates, machine, ratio_text, reason
from suite.shared.provenance import stale
from suite.shared.tables import TABLES

README = ROOT / "README.md"
TIME, MEMORY = f"training time / {BASELINE}", f"peak memory / {BASELINE}"


def implementations(rows: pd.DataFrame) -> Sheet:
    """When to pick each implementation, and its training time and peak memory; rows: a machine's of bench.csv."""
    timed = {row["implementation"]: row for _, row in readme_rows(rows).iterrows()}
    lines = []
    for impl in IMPLS:
        ending = "" if (ROOT / "impls" / impl.name).is_dir() else ".py"
        mark = ", *experimental*" if impl.experimental else ""
        line: dict[str, Any] = {"implementation": f"[`{impl.name}`](impls/{impl.name}{ending}){mark}"}
        line["when to pick it"] = impl.summary
        row = timed.get(impl.name)
        if row is not None and row["status"] == "ok":
            line |= {TIME: row["ratio"], MEMORY: row["MB / LSTM"]}
        else:
            line[TIME] = why_not(impl, row, set(rows["device"]))
        lines.append(line)
    return Sheet(lines, {TIME: ratio_text, MEMORY: ratio_text})


def why_not(impl: Impl, row: pd.Series | None, devices: set[str]) -> str:
    """Why an implementation has no training time: the device that it needs, or the status of its row."""
    if not devices & set(impl.devices):
        return f"needs a {'CPU' if impl.devices == ('cpu',) else 'GPU'}"
    return "not run" if row is None else reason(row)


def precedence(folder: Path) -> tuple[bool, bool, int, str]:
    """Sort key of machines: benchmarks that are not stale first, then GPUs, then the newest."""
    rows = TABLES["bench"].read(folder)
    if rows.empty:
        return True, True, 0, folder.name
    newest = int(max(rows["date"]).replace("-", ""))
    return bool(stale("bench", rows).any()), bool((rows["device"] != "cuda").any()), -newest, folder.name


def parts(results: Path) -> dict[str, list[Part]]:
    """Parts of README.md by the name of the markers around them; none if no machine has timed `WORKLOAD`."""
    for folder in sorted((path.parent for path in results.glob("*/bench.csv")), key=precedence):
        rows, where = TABLES["bench"].read(folder), f"{results.name}/{folder.name}"
        timed = readme_rows(rows).dropna(subset="ratio")
        if len(timed):
            first = timed.iloc[0]
            caption = training_caption(first)
            about = (
                f"{caption}, on {machine(first)}, {dates(timed)}. Ratios to `{BASELINE}` are medians of visits to "
                f"fresh processes, and a bar is the ratio times the median of `{BASELINE}`. Intervals and other "
                f"workloads: [bench]({where}/bench.md); "
                f"other machines: [results]({results.name}/README.md)."
            )
            figure = f"![{caption}]({where}/training-{WORKLOAD}.svg)"
            sentences = [f"- {sentence}" for sentence in headline(rows)]
            return {"figure": [figure, "\n".join(sentences), about], "implementations": [implementations(rows)]}
    return {}


def updated(results: Path) -> str:
    """README.md with each part between the two markers of its name; ValueError unless it has each of them once."""
    text = README.read_text(encoding="utf-8")
    for name, content in parts(results).items():
        markers = f"(<!-- {name} -->\n|<!-- end of {name} -->)"
        before, start, _, end, after = re.split(markers, text)
        text = f"{before}{start}\n{markdown(content)}\n{end}{after}"
    return text
