"""Summary of a verification in a terminal: failures, what was checked, what was not and why, and the answer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from impls import names
from impls.definition import dtype_name
from suite.pages.sheets import Sheet
from suite.pages.verify import failures, faults_lead
from suite.shared.cases import INTERPRETED
from suite.shared.compare import FLOOR
from suite.shared.format import count

DTYPES = tuple(map(dtype_name, FLOOR))
#: One reason for several of `why_unavailable`.
NO_CUDA = "No CUDA device here."
_CUDA, _DTYPE = re.compile(r"\w+ runs on cuda, not on cpu\."), re.compile(r"(\w+) computes in .*, not in \w+\.")


def checked(verify: pd.DataFrame) -> Sheet:
    """A line for each implementation: its cases, and by dtype its worst error over the allowed one."""
    ran = verify[verify["verdict"] != "skipped"]
    lines: list[dict[str, Any]] = []
    for name in (name for name in names() if name in set(ran["implementation"])):
        rows = ran[ran["implementation"] == name]
        worst = {dtype: _worst(rows[rows["dtype"] == dtype]) for dtype in DTYPES}
        note = INTERPRETED if (rows["reason"] == INTERPRETED).all() else ""
        lines.append({"implementation": name, "cases": len(rows), **worst, "": note})
    return Sheet(lines, {"cases": count, **dict.fromkeys(DTYPES, "{:.2f}".format)})


def _worst(rows: pd.DataFrame) -> float | str | None:
    """Largest ratio of some rows, with FAIL if one failed; None if there is none."""
    ratio = rows["ratio"].astype(float).max()
    return f"{ratio:.2f} FAIL" if (rows["verdict"] == "FAIL").any() else ratio


def not_run(reasons: Mapping[str, int]) -> Sheet:
    """A line for each reason why tests were not run, with their number; one for a missing GPU, one for a dtype."""
    counts: Counter[str] = Counter()
    limited = dict.fromkeys(found[1] for reason in reasons if (found := _DTYPE.match(reason)))
    for reason, tests in reasons.items():
        merged = _DTYPE.sub(f"a dtype that {' or '.join(limited)} does not compute in", _CUDA.sub(NO_CUDA, reason))
        counts[merged.rstrip(".")] += tests
    return _counted("not run here", counts)


def _counted(title: str, counts: Mapping[str, int]) -> Sheet:
    return Sheet([{title: what, "tests": n} for what, n in Counter(counts).most_common()], {"tests": count})


def say(
    console: Console,
    rows: Mapping[str, pd.DataFrame],
    failed: Sequence[tuple[str, str]],
    reasons: Mapping[str, int],
    left_out: Mapping[str, int],
) -> None:
    """Print all of it except the answer; failed: (test, its message)."""
    for test, message in failed:
        console.print(f"FAILED {test}\n    {message}", soft_wrap=True, markup=False, highlight=False)
    verify = rows.get("verify", pd.DataFrame())
    if len(verify) and len(table := checked(verify)):
        table.show("Worst error against the equation, as a multiple of what is allowed", console)
    said = [faults_lead(rows["faults"])] if "faults" in rows else []
    if (paper := rows.get("paper")) is not None:
        said += [f"{(paper['verdict'] == 'matched').sum()} of the paper's {len(paper)} parameter counts matched."]
    if said:
        console.print(f"\n{' '.join(said)}\n", highlight=False)
    if reasons:
        not_run(reasons).show("", console)
    if left_out:
        _counted("left out without --thorough", left_out).show("", console)


def answer(verify: pd.DataFrame, failed: int) -> str:
    """One sentence that says whether the implementations are right; "" if none was compared with the equation."""
    ran = verify[verify["verdict"] != "skipped"] if len(verify) else verify
    red = f"{failed} test{'s' * (failed != 1)} FAILED"
    if ran.empty:
        return f"{red}." if failed else ""
    if wrong := failures(ran):
        return f"FAILED: what the equation says is not what these compute: {wrong}."
    native = ran[ran["reason"] != INTERPRETED]
    right, dtypes = native["implementation"].nunique(), native["dtype"].nunique()
    counted = f"{right} implementation{'s' * (right != 1)}" if right else "All that ran"
    within = f", in {dtypes} dtype{'s' * (dtypes != 1)}" if right else ""
    parts = [
        f"{counted} compute{'s' * (right < 2)} what the equation says{within}, worst error "
        f"{ran['ratio'].astype(float).max():.2f} of what is allowed"
    ]
    others = verify[~verify["implementation"].isin(native["implementation"])].drop_duplicates("implementation")
    for name, reason in zip(others["implementation"], others["reason"], strict=True):
        interpreted = name in set(ran["implementation"])
        parts.append(f"{name} was interpreted, there is no GPU here" if interpreted else f"not checked: {reason}")
    text = "; ".join(part.rstrip(".") for part in parts) + "."
    return f"{red}, but {text}" if failed else text
