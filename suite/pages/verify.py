"""The page of verification and its conclusion: whether the implementations are right, and faults would be found."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from impls import names
from impls.definition import dtype_name
from impls.registry import find
from suite.pages import text
from suite.results.format import NONE, count, machine, origin, ratio_text
from suite.results.outcomes import Verdict, deciding, ran
from suite.results.run import Run

#: The sizes of the table of the largest ones.
REACHED = ("T", "B", "I", "H", "S", "Z")


def conclusion(tables: Mapping[str, pd.DataFrame], failed: int = 0) -> str:
    """Whether all comparisons passed, what was only interpreted or not checked, and which faults were found.

    failed: number of tests that failed. "" if nothing was compared, planted or failed.
    """
    sentences = list[str]()
    if failed:
        sentences.append(f"{_some(failed, 'test')} FAILED.")
    if len(tables.get("verify", ())):
        sentences += _of_comparisons(tables["verify"])
    if len(tables.get("faults", ())):
        found = faults_found(tables["faults"])
        sentences.append(f"{sum(found.values())} of {len(found)} planted faults were found.")
        not_run = (tables["faults"]["verdict"] == Verdict.NOT_RUN).sum()
        if not_run:
            sentences.append(f"{_some(not_run, 'fault')} could not be planted here.")
    return " ".join(sentences)


def _of_comparisons(rows: pd.DataFrame) -> list[str]:
    """Sentences of the conclusion about rows of verify.csv; none if nothing was compared."""
    compared = ran(rows)
    if compared.empty:
        return []
    implementations = compared["implementation"].unique()
    sentences = list[str]()
    wrong = compared[compared["verdict"] == Verdict.FAIL].drop_duplicates(["implementation", "dtype"])
    if len(wrong):
        which = ", ".join(f"{row['implementation']} in {row['dtype']}" for _, row in wrong.iterrows())
        sentences.append(f"Verification failed: {which}.")
    else:
        of_what = f"{_some(len(implementations), 'implementation')}, {_some(len(compared), 'comparison')}"
        worst = f"worst error {compared['ratio'].max():.2f} of the limit"
        sentences.append(f"All comparisons with the equation passed: {of_what}, {worst}.")
    native = set(compared["implementation"][~compared["interpreted"]])
    sentences += [f"`{name}` was only interpreted." for name in implementations if name not in native]
    unchecked = rows[~rows["implementation"].isin(implementations)]
    for name, skipped in unchecked.groupby("implementation", sort=False):
        sentences.append(f"`{name}` was not checked: {_why_skipped(str(name), skipped)}")
    return sentences


def _why_skipped(implementation: str, rows: pd.DataFrame) -> str:
    """Why no comparison of an implementation ran: the reason in a dtype that it supports, if it has rows in one.

    In other dtypes the reason may be the dtype alone.
    """
    dtypes = [dtype_name(dtype) for dtype in find(implementation).dtypes] if implementation in names() else []
    of_its_dtypes = rows[rows["dtype"].isin(dtypes)]
    first = (of_its_dtypes if len(of_its_dtypes) else rows).iloc[0]
    return str(first["reason"])


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def faults_found(rows: pd.DataFrame) -> dict[str, bool]:
    """Whether each planted fault was found in every dtype in which it was planted, by its edit."""
    rows = rows[rows["verdict"] != Verdict.NOT_RUN]
    found = (rows["verdict"] == Verdict.REJECTED).groupby(rows["edit"], sort=False).all()
    return {str(edit): bool(is_found) for edit, is_found in found.items()}


def faults_table(rows: pd.DataFrame) -> pd.DataFrame:
    """How many faults were planted and found, by kind."""
    is_found = faults_found(rows)
    lines = []
    for name, of_kind in rows.groupby("kind", sort=False):
        planted = [is_found[edit] for edit in of_kind["edit"].unique() if edit in is_found]
        lines.append({"kind": str(name), "planted": count(len(planted)), "found": count(sum(planted))})
    return text.table_of(lines)


def missed(rows: pd.DataFrame) -> list[str]:
    """Faults that survived, or could not be planted."""
    not_found = rows[rows["verdict"] != Verdict.REJECTED]
    return ["{edit}, in {implementation}, {dtype}: {verdict}".format_map(row) for _, row in not_found.iterrows()]


def worst_errors(rows: pd.DataFrame, by: Sequence[str] = ("implementation", "dtype")) -> pd.DataFrame:
    """The worst error of each implementation in each dtype, or of each implementation in all of them."""
    lines = []
    for _, group in rows.groupby(list(by), sort=False):
        compared = ran(group)
        worst = deciding(group, by).iloc[0]
        failures = int((compared["verdict"] == Verdict.FAIL).sum())
        verdict = f"{failures} FAILED" if failures else str(worst["verdict"])
        if len(compared) and compared["interpreted"].all():
            verdict += ", interpreted"
        line = {
            "implementation": worst["implementation"],
            "dtype": worst["dtype"],
            "cases": count(len(compared)),
            "worst": NONE if pd.isna(worst["ratio"]) else ratio_text(worst["ratio"]),
            "tensor": worst["tensor"] or worst["finding"] or worst["reason"],
            "use": worst["use"] or NONE,
            "verdict": verdict,
        }
        lines.append(line)
    return text.table_of(lines)


def reach_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest sizes that each implementation passed in each dtype, in parentheses if only the forward pass did."""
    passed = rows[(rows["verdict"] == Verdict.PASS) & rows["T"].notna()]
    lines = []
    for (name, dtype), group in passed.groupby(["implementation", "dtype"], sort=False):
        line = {"implementation": name, "dtype": dtype}
        trained = group[~group["forward_only"]]
        for size in REACHED:
            most = int(group[size].max())
            with_gradients = int(trained[size].max()) if len(trained) else 0
            line[size] = f"{with_gradients} ({most})" if most > with_gradients else str(most)
        lines.append(line)
    return text.table_of(lines)


def matrix(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Capabilities by implementation, and the reasons that the cells number."""
    numbers = dict[str, int]()
    lines = []
    for name, group in rows.groupby("capability", sort=False):
        line: dict[str, Any] = {"": name}
        for row in group.to_dict("records"):
            number = numbers.setdefault(row["reason"], len(numbers) + 1) if row["reason"] else ""
            line[f"`{row['implementation']}`"] = f"{row['outcome']} ({number})" if number else str(row["outcome"])
        lines.append(line)
    return text.table_of(lines), list(numbers)


def page(run: Run) -> str:
    """Markdown of the page."""
    capabilities, reasons = matrix(run.tables["capabilities"])
    return text.page(
        "verify.md",
        machine=machine(run),
        conclusion=conclusion(run.tables),
        origin=origin(run),
        errors=worst_errors(run.rows),
        reach=reach_table(run.rows),
        faults=faults_table(run.tables["faults"]),
        missed=missed(run.tables["faults"]),
        capabilities=capabilities,
        reasons=reasons,
    )
