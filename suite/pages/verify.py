"""The page of verification and its conclusion: whether the implementations are right, and faults would be found."""

from collections.abc import Mapping, Sequence

import pandas as pd

from suite.pages.page import Others, Page, Part, Sheet
from suite.results.format import count, ratio_text
from suite.results.outcomes import CaseOutcome, FaultOutcome, deciding, ran

ERRORS = """## Errors

What is compared is the output, the final states and, in training, the gradients that arrive at parameters, inputs and
initial states, with random parameters. It is compared on the same rounded numbers with the naive form in float64, or
with row_scaled in float64 where that form would be too large. *cases* is the number of comparisons that ran here,
*worst* the largest error as a multiple of what the tolerance rule in `suite/checks/README.md` allows, *tensor* the
tensor with that error, and *use* how the model was used there, if it was not in a plain call.
"""
FAULTS = """## Planted faults

A fault is an edit of the code that makes a correct implementation wrong. It is *found* if the comparison rejects the
tensor that the fault damages; a fault in a gradient must leave the output passing.
"""
REACH = """## Compared up to

For each size, the largest at which output, states and all gradients were compared; in parentheses, a larger one at
which only the forward pass was. At the sizes that people run, from H 31 on, the oracle is row_scaled in float64, which
itself is compared with the naive form at H 128.
"""
#: The sizes of that table.
REACHED = "TBIHSZ"
CAPABILITIES = """## Capabilities

Each cell is a check that ran: `pass`; `no` if the implementation refuses with a sentence, or needs too much
memory; `FAIL` for any other error or a wrong number; `not run` with the reason.
"""


def conclusion(tables: Mapping[str, pd.DataFrame], failed: int = 0) -> str:
    """Whether all comparisons passed, what was only interpreted or not checked, and which faults were found.

    failed: number of tests that failed. "" if nothing was compared and nothing failed.
    """
    sentences = list[str]()
    verify = tables.get("verify", pd.DataFrame())
    compared = ran(verify) if len(verify) else verify
    if failed:
        sentences.append(f"{_some(failed, 'test')} FAILED.")
    if len(compared):
        wrong = compared[compared["verdict"] == CaseOutcome.FAIL]
        wrong = wrong.drop_duplicates(["implementation", "dtype"])
        native = compared[~compared["interpreted"]]["implementation"].unique()
        every = compared["implementation"].unique()
        if len(wrong):
            named = ", ".join(wrong["implementation"] + " in " + wrong["dtype"])
            sentences.append(f"**Verification failed**: {named}.")
        else:
            of_what = f"{_some(len(every), 'implementation')}, {_some(len(compared), 'comparison')}"
            worst = f"worst error {compared['ratio'].max():.2f} of the limit"
            sentences.append(f"All comparisons with the equation passed: {of_what}, {worst}.")
        sentences += [f"`{name}` was only interpreted." for name in every if name not in native]
        others = verify[~verify["implementation"].isin(every)]
        # A row of another dtype may say only that the implementation does not compute in it.
        others = others.sort_values("dtype", key=lambda dtype: dtype != "float32", kind="stable")
        for _, row in others.drop_duplicates("implementation").iterrows():
            sentences.append("`{implementation}` was not checked: {reason}".format_map(row))
    if "faults" in tables:
        sentences.append(faults_found(tables["faults"]))
    return " ".join(sentences)


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def faults_found(rows: pd.DataFrame) -> str:
    """How many of the planted faults were found, in a sentence."""
    found = (rows["verdict"] == FaultOutcome.REJECTED).groupby(rows["edit"]).all()
    return f"{found.sum()} of {len(found)} planted faults were found."


def faults_table(rows: pd.DataFrame) -> Sheet:
    """How many faults were planted and found, by kind."""
    found = (rows["verdict"] == FaultOutcome.REJECTED).groupby([rows["kind"], rows["edit"]], sort=False).all()
    counts = found.groupby(level="kind", sort=False).agg(planted="size", found="sum")
    return Sheet(counts.reset_index().to_dict("records"), {"planted": count, "found": count})


def missed(rows: pd.DataFrame) -> str:
    """Faults that survived, as a list; empty if there are none."""
    survived = rows[rows["verdict"] != FaultOutcome.REJECTED]
    lines = ["- {edit}, in {implementation}, {dtype}: {verdict}".format_map(row) for _, row in survived.iterrows()]
    return "\n".join(lines)


def worst_errors(rows: pd.DataFrame, by: Sequence[str] = ("implementation", "dtype")) -> Sheet:
    """The worst error of each implementation in each dtype, or of each implementation in all of them."""
    lines = []
    for _, group in rows.groupby(list(by), sort=False):
        compared = ran(group)
        worst = deciding(group, by).iloc[0]
        wrong = int((compared["verdict"] == CaseOutcome.FAIL).sum())
        line = {
            "implementation": worst["implementation"],
            "dtype": worst["dtype"],
            "cases": len(compared),
            "worst": worst["ratio"],
            "tensor": worst["tensor"] or worst["finding"] or worst["reason"],
            "use": worst["use"] or None,
            "verdict": f"{wrong} FAILED" if wrong else str(worst["verdict"]),
        }
        if len(compared) and compared["interpreted"].all():
            line["verdict"] += ", interpreted"
        lines.append(line)
    return Sheet(lines, {"cases": count, "worst": ratio_text})


def reach_table(rows: pd.DataFrame) -> Sheet:
    """The largest sizes that each implementation passed in each dtype, in parentheses if only the forward pass did."""
    passed = rows[(rows["verdict"] == CaseOutcome.PASS) & rows["T"].notna()]
    sizes = passed[[*REACHED]].astype(int)
    trained = sizes.mask(passed["forward_only"], 0)
    place = [passed["implementation"], passed["dtype"]]
    largest = sizes.groupby(place, sort=False).max()
    with_gradients = trained.groupby(place, sort=False).max()
    forward_alone = (" (" + largest.astype(str) + ")").where(largest > with_gradients, "")
    cells = with_gradients.astype(str) + forward_alone
    return Sheet(cells.reset_index().to_dict("records"))


def matrix(rows: pd.DataFrame) -> list[Part]:
    """Capabilities by implementation, and below them the reasons that the cells number."""
    reasons = list(filter(None, rows["reason"].unique()))
    numbers = rows["reason"].map(lambda reason: f" ({reasons.index(reason) + 1})" if reason in reasons else "")
    cells = rows.assign(name="`" + rows["implementation"] + "`", cell=rows["outcome"] + numbers)
    lines = []
    for capability, group in cells.groupby("capability", sort=False):
        by_name = dict(zip(group["name"], group["cell"], strict=True))
        lines.append({"": capability} | by_name)
    # A star at the start of a line would begin a list.
    notes = [f"{n}. {reason.replace('*', '·')}" for n, reason in enumerate(reasons, 1)]
    return [Sheet(lines), "\n".join(notes)]


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    parts: list[Part] = [conclusion({"verify": rows, **others}), ERRORS, worst_errors(rows)]
    parts += [REACH, reach_table(rows)]
    if "faults" in others:
        parts += [FAULTS, faults_table(others["faults"]), missed(others["faults"])]
    if "capabilities" in others:
        parts += [CAPABILITIES, *matrix(others["capabilities"])]
    return parts


PAGE = Page("verify", "Verification", _parts, others=("faults", "capabilities"))
