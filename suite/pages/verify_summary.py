"""Summary of a verification in a terminal: failures, what was checked, what was not and why, and the answer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from suite.pages.sheets import Sheet
from suite.pages.verify import errors_table, faults_lead, verdict
from suite.shared.cases import INTERPRETED
from suite.shared.format import count

#: One reason for several of `why_unavailable`.
NO_CUDA = "No CUDA device here."
_CUDA, _DTYPE = re.compile(r"\w+ runs on cuda, not on cpu\."), re.compile(r"(\w+) computes in .*, not in \w+\.")


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
    if len(verify) and len(ran := verify[verify["verdict"] != "skipped"]):
        shown = errors_table(ran).only(["implementation", "dtype", "cases", "worst", "verdict"])
        shown.show("Worst error against the equation, as a multiple of what is allowed", console)
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
    """Line that says whether the implementations are right; "" if none was compared and nothing failed."""
    ran = verify[verify["verdict"] != "skipped"] if len(verify) else verify
    said = [f"{failed} test{'s' * (failed != 1)} FAILED."] * bool(failed)
    if len(ran):
        said.append(verdict(ran).replace("*", ""))
        native = ran[ran["reason"] != INTERPRETED]
        others = verify[~verify["implementation"].isin(native["implementation"])].drop_duplicates("implementation")
        for name, reason in zip(others["implementation"], others["reason"], strict=True):
            said.append(
                f"{name} was only interpreted." if name in set(ran["implementation"]) else f"Not checked: {reason}"
            )
    return " ".join(said)
