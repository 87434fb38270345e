"""The figure and the table of README.md, made of the results of one machine."""

from pathlib import Path
from typing import Any

import pandas as pd

from impls.registry import IMPLS, Impl
from suite.pages.bench import WORKLOAD, headline, training_caption
from suite.pages.bench_tables import answer, in_a_loop, leading, without_busy
from suite.pages.sheets import Part, Sheet, markdown
from suite.shared.cases import BASELINE
from suite.shared.files import ROOT, ResultsError, write_whole
from suite.shared.format import dates, machine, status, two
from suite.shared.provenance import stale
from suite.shared.tables import TABLES

README = ROOT / "README.md"
#: What multiplies bfloat16 as bfloat16.
HALF = "batched_cpu"
TIME, MEMORY = f"training time / {BASELINE}", f"peak memory / {BASELINE}"


def implementations(rows: pd.DataFrame) -> Sheet:
    """When to pick each implementation, and its training time and peak memory; rows: a machine's of bench.csv."""
    timed = {row["implementation"]: row for _, row in headline(rows).iterrows()}
    lines = []
    for impl in IMPLS:
        ending = "" if (ROOT / "impls" / impl.name).is_dir() else ".py"
        line: dict[str, Any] = {
            "implementation": f"[`{impl.name}`](impls/{impl.name}{ending}){', *experimental*' * impl.experimental}",
            "when to pick it": impl.summary,
        }
        row = timed.get(impl.name)
        if row is not None and row["status"] == "ok":
            lstm = timed[BASELINE]["peak_bytes"] if BASELINE in timed else None
            line |= {TIME: leading(row).ratio.ratio, MEMORY: lstm and row["peak_bytes"] / lstm}
        else:
            line[TIME] = why_not(impl, row, set(rows["device"]))
        lines.append(line)
    return Sheet(lines, {TIME: two, MEMORY: two})


def why_not(impl: Impl, row: pd.Series | None, devices: set[str]) -> str:
    """Why an implementation has no training time: the device that it needs, or the status of its row."""
    if not devices & set(impl.devices):
        return f"needs a {'CPU' if impl.devices == ('cpu',) else 'GPU'}"
    return "not run" if row is None else status(row)


def in_half(rows: pd.DataFrame) -> str:
    """A sentence on when bfloat16 pays, with training times of batched_cpu in it over float32; empty without any."""
    timed = rows[(rows["implementation"] == HALF) & (rows["pass"] == "train") & (rows["layer_norm"] == "off")]
    seconds = timed[timed["status"] == "ok"].pivot_table(
        index="workload", columns="dtype", values="median_s", sort=False
    )
    if not {"float32", "bfloat16"} <= {*seconds}:
        return ""
    shares = (seconds["bfloat16"] / seconds["float32"]).dropna()
    figures = " and ".join(f"{two(share)} ({workload})" for workload, share in shares.items())
    return (
        f"Where bfloat16 is precise enough and the processor multiplies it (AMX or AVX512-BF16), `{HALF}` trains in "
        f"{figures} of its time in float32."
    )


def precedence(folder: Path) -> tuple[bool, bool, int, str]:
    """Sort key of machines: benchmarks of these sources first, then GPUs, then the newest; damaged ones come last."""
    try:
        rows = TABLES["bench"].read(folder)
    except ResultsError:
        rows = pd.DataFrame()
    if rows.empty:
        return True, True, 0, folder.name
    newest = int(max(rows["date"]).replace("-", ""))
    return bool(stale(rows).any()), bool((rows["device"] != "cuda").any()), -newest, folder.name


def parts(results: Path) -> dict[str, list[Part]]:
    """Parts of README.md, by the name of the marks around them; nothing if no machine has timed `WORKLOAD`."""
    for folder in sorted((path.parent for path in results.glob("*/bench.csv")), key=precedence):
        rows, where = TABLES["bench"].read(folder), f"{results.name}/{folder.name}"
        counted = without_busy(rows)
        timed = headline(rows)
        if len(timed := timed[timed["status"] == "ok"]):
            first = timed.iloc[0]
            caption = training_caption(first)
            how = "of calls in a loop" if in_a_loop(first) else "medians of visits to fresh processes"
            about = (
                f"{caption}, on {machine(first)}, {dates(timed)}. Ratios to `{BASELINE}` are {how}, and a bar is the "
                f"ratio times the median of `{BASELINE}`. Intervals and other workloads: [bench]({where}/bench.md); "
                f"other machines: [results]({results.name}/README.md)."
            )
            figure = f"![{caption}]({where}/training-{WORKLOAD}.svg)"
            about = f"{answer(counted)} {in_half(counted)} {about}".strip()
            return {"figure": [figure, about], "implementations": [implementations(rows)]}
    return {}


def write_readme(results: Path) -> None:
    """Put each part between the two marks of its name; ValueError if these are not in README.md once each."""
    for name, content in parts(results).items():
        text = README.read_text(encoding="utf-8")
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"{README}: expected {start.strip()} and {end} once each")
        head, rest = text.split(start)
        write_whole(README, f"{head}{start}\n{markdown(content)}\n{end}{rest.split(end)[1]}")
