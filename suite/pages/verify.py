"""The page of verification, and its summary in a terminal: are the implementations right, would wrong ones be found."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from suite.pages.page import Others, Page
from suite.pages.sheets import Format, Part, Sheet
from suite.shared.cases import INTERPRETED
from suite.shared.format import count, two

#: By what is planted, the verdict that it should have, and its name.
WANTED = {"fault": ("rejected", "planted faults were found"), "rewrite": ("accepted", "equivalent rewrites passed")}

ERRORS = """## Errors

Each implementation is compared with the naive form in float64, in each of its dtypes, on the same rounded numbers and
with random parameters: output, final states, and the gradients of all parameters, inputs and given states. A tensor
passes if its relative error is at most twice the naive form's own error in the same dtype, plus 64 eps in float64 and
4 eps in the other dtypes (the eps of TF32 is 2^-10). *worst* is the largest error as a multiple of that limit, and
*tensor* where it occurred.
"""
LONGER = "*worst, T {steps}* is the same over sequences of {steps} steps, and *at T* where it occurred.\n"
FAULTS = """## Planted faults

A fault is a small edit that makes a correct implementation wrong. It is *found* if the comparison rejects the tensor
that the fault damages; a fault in a gradient must leave the output passing. A rewrite changes the code, but not the
function, and must pass.
"""
CAPABILITIES = """## Capabilities

Each cell is a check that ran: `pass`; `no` if the implementation refuses with an error of its own, or needs too much
memory; `FAIL` for any other error or a wrong number; `not run` with the reason.
"""


def verdict(rows: pd.DataFrame) -> str:
    """Whether every comparison passed, and which implementations were only interpreted."""
    ran = rows[rows["verdict"] != "skipped"]
    if failed := failures(ran):
        return f"**Verification failed**: {failed}."
    every, native = (each["implementation"].unique() for each in (ran, ran[ran["reason"] != INTERPRETED]))
    compared = f"{_some(len(every), 'implementation')}, {_some(len(ran), 'comparison')}"
    only = "".join(f" `{name}` was only interpreted." for name in every if name not in native)
    worst = ran["ratio"].max()
    return f"All comparisons with the equation passed: {compared}, worst error {worst:.2f} of the limit.{only}"


def _some(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def failures(ran: pd.DataFrame) -> str:
    """Names of implementations that failed, with the dtype; empty if none did."""
    failed = ran[ran["verdict"] == "FAIL"].drop_duplicates(["implementation", "dtype"])
    return ", ".join(failed["implementation"] + " in " + failed["dtype"])


def faults_lead(rows: pd.DataFrame) -> str:
    """How many of the planted faults were found, and how many of the rewrites passed, in a sentence."""
    parts = []
    for planted, (wanted, what) in WANTED.items():
        found = (rows["verdict"] == wanted)[rows["planted"] == planted].groupby(rows["edit"]).all()
        parts += [f"{found.sum()} of {len(found)} {what}"] * (len(found) > 0)
    return f"{', '.join(parts)}."


def errors_table(rows: pd.DataFrame, errors: pd.DataFrame | None = None) -> Sheet:
    """Worst error of each implementation in each dtype; errors: those of longer sequences, by T."""
    formats: dict[str, Format] = {"cases": count, "worst": two}
    if errors is not None:
        errors = errors[errors["verdict"] != "not run"]
        errors = errors.assign(worst=errors["error"] / errors["allowed"]).sort_values("worst")
        formats |= {f"worst, T {_steps(errors)}": two, "at T": count}
    lines = []
    for _, group in rows.groupby(["implementation", "dtype"], sort=False):
        name, dtype = group["implementation"].iloc[0], group["dtype"].iloc[0]
        ran = group[group["verdict"] != "skipped"]
        worst = ran.sort_values("ratio").dropna(subset="ratio")[-1:]
        tensor = (worst["tensor"] if len(worst) else group["reason"]).iloc[0]
        line = {
            "implementation": name,
            "dtype": dtype,
            "cases": len(ran),
            "worst": worst["ratio"].max(),
            "tensor": tensor,
        }
        if errors is not None:
            own = errors[(errors["implementation"] == name) & (errors["dtype"] == dtype)]
            line |= {f"worst, T {_steps(errors)}": own["worst"].max(), "at T": own["T"][-1:].max()}
            ran = pd.concat([ran, own])
        lines.append(line | {"verdict": _verdict(ran)})
    return Sheet(lines, formats)


def _verdict(ran: pd.DataFrame) -> str:
    if ran.empty:
        return "skipped"
    failed = int((ran["verdict"] == "FAIL").sum())
    word = f"{failed} FAILED" if failed else "pass"
    return f"{word}, interpreted" if (ran["reason"] == INTERPRETED).all() else word


def _steps(errors: pd.DataFrame) -> str:
    return f"{count(errors['T'].min())} to {count(errors['T'].max())}"


def faults_table(rows: pd.DataFrame) -> Sheet:
    """Faults that were planted and that were found, by kind."""
    faults = rows[rows["planted"] == "fault"]
    found = (faults["verdict"] == WANTED["fault"][0]).groupby([faults["kind"], faults["edit"]], sort=False).all()
    lines = [
        {"kind": kind, "planted": len(each), "found": int(each.sum())}
        for kind, each in found.groupby(level="kind", sort=False)
    ]
    return Sheet(lines, {"planted": count, "found": count})


def missed(rows: pd.DataFrame) -> str:
    """Faults that survived and rewrites that were rejected, as a list; empty if there are none."""
    wrong = rows[rows["verdict"] != rows["planted"].map({planted: wanted for planted, (wanted, _) in WANTED.items()})]
    return "\n".join("- {edit}, in {implementation}, {dtype}: {verdict}".format_map(row) for _, row in wrong.iterrows())


def matrix(rows: pd.DataFrame) -> list[Part]:
    """Capabilities by implementation, and below them the reasons that the cells number."""
    reasons = list(rows["reason"].dropna().unique())
    numbers = rows["reason"].map(lambda reason: f" ({reasons.index(reason) + 1})" if reason in reasons else "")
    cells = rows.assign(name="`" + rows["implementation"] + "`", cell=rows["outcome"] + numbers)
    lines = [
        {"": capability} | dict(zip(group["name"], group["cell"], strict=True))
        for capability, group in cells.groupby("capability", sort=False)
    ]
    # A star at the start of a line would begin a list.
    return [Sheet(lines), "\n".join(f"{n}. {reason.replace('*', '·')}" for n, reason in enumerate(reasons, 1))]


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    errors, faults, can = (others.get(name) for name in ("errors", "faults", "capabilities"))
    lead = verdict(rows) if faults is None else f"{verdict(rows)} {faults_lead(faults)}"
    longer = "" if errors is None else LONGER.format(steps=_steps(errors))
    parts: list[Part] = [lead, ERRORS + longer, errors_table(rows, errors)]
    if faults is not None:
        parts += [FAULTS, faults_table(faults), missed(faults)]
    if can is not None:
        parts += [CAPABILITIES, *matrix(can)]
    return [part for part in parts if part]


PAGE = Page("verify", "Verification", _parts, others=("errors", "faults", "capabilities"))


def say(
    console: Console, rows: Mapping[str, pd.DataFrame], failed: Sequence[tuple[str, str]], reasons: Mapping[str, int]
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
        lines = [{"not run": reason.rstrip("."), "tests": n} for reason, n in Counter(reasons).most_common()]
        Sheet(lines, {"tests": count}).show("", console)


def answer(verify: pd.DataFrame, failed: int) -> str:
    """Line that says whether the implementations are right; "" if none was compared and nothing failed."""
    ran = verify[verify["verdict"] != "skipped"] if len(verify) else verify
    said = [f"{_some(failed, 'test')} FAILED."] * bool(failed)
    if len(ran):
        said.append(re.sub("[*`]", "", verdict(ran)))
        others = verify[~verify["implementation"].isin(ran["implementation"])]
        # A row of another dtype may say only that the implementation does not compute in it.
        others = others.sort_values("dtype", key=lambda dtype: dtype != "float32", kind="stable")
        for _, row in others.drop_duplicates("implementation").iterrows():
            said.append("{implementation} was not checked: {reason}".format_map(row))
    return " ".join(said)
