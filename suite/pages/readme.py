"""What the README shows of the results: the plot of speed, and one table of the ladder."""

from pathlib import Path
from typing import Any

import pandas as pd

from impls.registry import IMPLS, Impl, dtype_name
from suite.pages.bench_tables import interval
from suite.pages.sheets import Sheet
from suite.pages.words import made_on, ranged
from suite.shared.cases import BASELINE
from suite.shared.files import ROOT
from suite.shared.results import write_whole
from suite.shared.rows import table
from suite.shared.trust import sources

README = ROOT / "README.md"
#: The workload whose training time the ladder shows, in float32 without layer norm.
WORKLOAD = "medium"
TIME = f"training time / {BASELINE}"
#: What the columns of the ladder ask of the capability matrix, each by the first words of its rows.
ASKED = {"second derivative": "second derivative", "torch.func": "torch.func."}


def ladder(can: pd.DataFrame, timed: pd.DataFrame) -> Sheet:
    """Return a line for each implementation: what it adds, what it runs on and in, what it can, how long it trains.

    can: rows of capabilities.csv, of all machines. timed: rows of bench.csv, of one.
    """
    lines = []
    for impl in IMPLS:
        line: dict[str, Any] = {
            "name": f"[`{impl.name}`]({_source(impl)})",
            "what it adds": impl.summary,
            "devices": ", ".join(impl.devices),
            "dtypes": ", ".join(map(dtype_name, impl.dtypes)),
        }
        line |= {column: outcome(can, impl.name, asked) for column, asked in ASKED.items()}
        lines.append(line | {TIME: time(timed, impl.name)})
    return Sheet(lines, {TIME: ranged})


def _source(impl: Impl) -> str:
    return f"impls/{impl.name}.py" if (ROOT / "impls" / f"{impl.name}.py").exists() else f"impls/{impl.name}"


def outcome(rows: pd.DataFrame, implementation: str, asked: str) -> str:
    """Return yes where every check passed, on whichever machine it ran; else the worst word, or "not run"."""
    found = rows[(rows["implementation"] == implementation) & rows["capability"].str.startswith(asked)]
    words = set(found.loc[found["outcome"] != "not run", "outcome"])
    return next((word for word in ("FAIL", "no") if word in words), "yes" if words else "not run")


def time(rows: pd.DataFrame, implementation: str) -> Any:
    """Return the paired ratio of a training step, or in a word why there is none."""
    here = rows[(rows["workload"] == WORKLOAD) & (rows["dtype"] == "float32") & (rows["layer_norm"] == "off")]
    here = here[(here["implementation"] == implementation) & (here["pass"] == "train")]
    if here.empty:
        return "not run"
    row = here.iloc[-1]
    return interval(row) if row["status"] == "ok" else row["status"].split(":")[0]


def shown_first(results: Path) -> Path | None:
    """Return the machine that the README shows: one whose rows are not stale, if there is, and rather a GPU."""

    def place(folder: Path) -> tuple[bool, bool, str]:
        rows = table("bench").read(folder)
        return bool((rows["sources"] != sources()).any()), bool((rows["device"] != "cuda").any()), folder.name

    return min((path.parent for path in results.glob("*/bench.csv")), key=place, default=None)


def parts(results: Path) -> dict[str, str]:
    """Return what stands between the README's marks, by the name of the mark."""
    machine = shown_first(results)
    if machine is None:
        return {}
    where = f"{results.name}/{machine.name}"
    rows = table("bench").read(machine)
    plot = f"![Time as a multiple of that of {BASELINE}]({where}/speed.svg)\n\n{made_on(rows)}"
    can = [pd.DataFrame(columns=table("capabilities").key)]
    can += [table("capabilities").read(path.parent) for path in results.glob("*/capabilities.csv")]
    text = (
        f"{ladder(pd.concat(can), rows).markdown()}\n\nTraining time is that of a step of the workload {WORKLOAD} "
        f"without layer norm in float32, with a 95 % interval. All workloads: "
        f"[bench]({where}/bench.md); all capabilities: "
        f"[capabilities]({where}/capabilities.md)."
    )
    return {"speed": plot, "ladder": text}


def write_readme(results: Path) -> None:
    """Put the plot and the table into the README, each between its two marks."""
    text = README.read_text(encoding="utf-8")
    for name, part in parts(results).items():
        head, rest = text.split(start := f"<!-- {name} -->\n")
        _, tail = rest.split(end := f"<!-- end of {name} -->")
        text = f"{head}{start}\n{part}\n\n{end}{tail}"
    write_whole(README, text)
