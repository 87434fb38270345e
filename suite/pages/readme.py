"""What the READMEs show of the results: the plot of speed, one table of the ladder, the capability matrix."""

from pathlib import Path
from typing import Any

import pandas as pd

from impls.definition import dtype_name
from impls.registry import IMPLS, Impl
from suite.pages.bench_tables import in_a_loop, leading, packed_answer, without_busy
from suite.pages.capabilities import matrix
from suite.pages.sheets import Part, Sheet, markdown
from suite.shared.cases import BASELINE
from suite.shared.files import ROOT
from suite.shared.format import made_on, ranged, status
from suite.shared.provenance import stale
from suite.shared.results import write_whole
from suite.shared.rows import table

#: By the name of the marks that it stands between, the file that shows it.
READMES = {"speed": ROOT / "README.md", "ladder": ROOT / "README.md", "capabilities": ROOT / "suite/checks/README.md"}
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
        ending = "" if (ROOT / "impls" / impl.name).is_dir() else ".py"
        line: dict[str, Any] = {
            "name": f"[`{impl.name}`](impls/{impl.name}{ending}){', *experimental*' * impl.experimental}",
            "what it adds": impl.summary,
            "devices": ", ".join(impl.devices),
            "dtypes": ", ".join(map(dtype_name, impl.dtypes)),
        }
        line |= {column: outcome(can, impl, asked) for column, asked in ASKED.items()}
        lines.append(line | {TIME: time(timed, impl)})
    return Sheet(lines, {TIME: ranged})


def outcome(rows: pd.DataFrame, impl: Impl, asked: str) -> str:
    """Return yes where every check passed, on whichever machine it ran; else the worst word, or why none ran."""
    if rows.empty:
        return missing(rows, impl)
    found = rows[(rows["implementation"] == impl.name) & rows["capability"].str.startswith(asked)]
    words = set(found.loc[found["outcome"] != "not run", "outcome"])
    return next((word for word in ("FAIL", "no") if word in words), "yes" if words else missing(rows, impl))


def time(rows: pd.DataFrame, impl: Impl) -> Any:
    """Return the ratio of a training step, or in a word why there is none."""
    here = rows[(rows["workload"] == WORKLOAD) & (rows["dtype"] == "float32") & (rows["layer_norm"] == "off")]
    here = here[(here["implementation"] == impl.name) & (here["pass"] == "train")]
    if here.empty or status(here.iloc[-1]) == "not run":
        return missing(rows, impl)
    row = here.iloc[-1]
    return leading(row).ratio if row["status"] == "ok" else status(row)


def how(rows: pd.DataFrame) -> str:
    """Return how the training times were taken, in words."""
    led = [in_a_loop(row) for _, row in rows[rows["workload"] == WORKLOAD].iterrows()]
    return "among others in a loop that waits for none of them" if any(led) else "with a 95 % interval"


def missing(rows: pd.DataFrame, impl: Impl) -> str:
    """Return why rows have nothing of an implementation: it was not run, or none of them is of the device it needs."""
    if rows.empty or len(impl.devices) > 1 or impl.devices[0] in set(rows["device"]):
        return "not run"
    return f"needs a {'CPU' if impl.devices == ('cpu',) else 'GPU'}"


def precedence(folder: Path) -> tuple[bool, bool, str]:
    """Return a key by which machines are sorted: by whether their benchmark is of these sources, then GPUs first."""
    rows = table("bench").read(folder)
    if rows.empty:
        return True, True, folder.name
    return bool(stale(rows).any()), bool((rows["device"] != "cuda").any()), folder.name


def shown_first(results: Path) -> Path | None:
    """Return the machine that the README shows, if one has a benchmark."""
    return min((path.parent for path in results.glob("*/bench.csv")), key=precedence, default=None)


def parts(results: Path) -> dict[str, list[Part]]:
    """Return what stands between the READMEs' marks, by their name; nothing where no machine has results."""
    machine = shown_first(results)
    if machine is None:
        return {}
    where, rows = f"{results.name}/{machine.name}", without_busy(table("bench").read(machine))
    own = table("capabilities").read(machine)
    can = [own, *(table("capabilities").read(path.parent) for path in results.glob("*/capabilities.csv"))]
    about = (
        f"Training time is that of a step of the workload {WORKLOAD} without layer norm in float32, {how(rows)}. "
        f"All workloads: [bench]({where}/bench.md). {packed_answer(rows)}".rstrip()
    )
    return {
        "speed": [f"![Time as a multiple of that of {BASELINE}]({where}/speed.svg)", made_on(rows)],
        "ladder": [ladder(pd.concat(can), rows), about],
        "capabilities": matrix(own) if len(own) else [],
    }


def write_readmes(results: Path) -> None:
    """Put each part into its README, between the two marks of its name; ValueError where there are none."""
    for name, found in parts(results).items():
        text = READMES[name].read_text(encoding="utf-8")
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"{READMES[name]}: expected {start.strip()} and {end} once each")
        head, rest = text.split(start)
        write_whole(READMES[name], f"{head}{start}\n{markdown(found)}\n{end}{rest.split(end)[1]}")
