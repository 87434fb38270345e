"""The page of verification, and its summary in a terminal: are the implementations right, would wrong ones be found."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from impls.registry import IMPLS
from suite.pages.page import Others, Page
from suite.pages.sheets import Format, Part, Sheet
from suite.shared.cases import INTERPRETED, MULTIPLIED
from suite.shared.format import count, two

#: By what is planted, the verdict that it should have, and its name.
EXPECTED = {"fault": ("rejected", "planted faults were found"), "rewrite": ("accepted", "equivalent rewrites passed")}

ERRORS = """## Errors

Each implementation is compared with the naive form in float64, in each of its dtypes, on the same rounded numbers and
with random parameters: output, final states, and the gradients of all parameters, inputs and given states. A tensor
passes if its relative error is at most twice the naive form's own error in the same dtype, plus 64 eps in float64 and
4 eps in the other dtypes (the eps of TF32 is 2^-10). *worst* is the largest error as a multiple of that limit, and
*tensor* where it occurred.
"""
WAYS = "Worst errors of batched_cpu by its ways to multiply bfloat16: {}.\n"
LONGER = "*worst, T {steps}* is the same over sequences of {steps} steps, and *at T* where it occurred.\n"
FAULTS = """## Planted faults

A fault is a small edit that makes a correct implementation wrong. It is *found* if the comparison rejects the tensor
that the fault damages; a fault in a gradient must leave the output passing. A rewrite changes the code, but not the
function, and must pass.
"""
REACH = """## Compared up to

The largest of each size at which an implementation was compared, output, states and all gradients; in parentheses if
larger, of the forward pass alone. The oracle of wide cases, from H 31 on, is row_scaled in float64, which is compared
with the naive form and with numerical derivatives at H 128.
"""
CAPABILITIES = """## Capabilities

Each cell is a check that ran: `pass`; `no` if the implementation refuses with an error of its own, or needs too much
memory; `FAIL` for any other error or a wrong number; `not run` with the reason.
"""
#: Reasons why a test did not run, as the end of a run sums them up, and what each of its words is in.
NOT_RUN = {
    "no GPU": r"on cuda, not on cpu|\bCUDA device|\bGPU\b",
    "not on this processor": r"^This processor ",
    "not installed": r"[Nn]ot installed|is not here",
    "not in this dtype": r" computes in .*, not in ",
}


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
    for planted, (expected, what) in EXPECTED.items():
        right = (rows["verdict"] == expected)[rows["planted"] == planted].groupby(rows["edit"]).all()
        parts += [f"{right.sum()} of {len(right)} {what}"] * (len(right) > 0)
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
        name, dtype = group[["implementation", "dtype"]].iloc[0]
        ran = group[group["verdict"] != "skipped"]
        worst = ran.sort_values("ratio").dropna(subset="ratio")[-1:]
        line = {"implementation": name, "dtype": dtype, "cases": len(ran), "worst": worst["ratio"].max()}
        line["tensor"] = (worst["tensor"] if len(worst) else group["reason"]).iloc[0]
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


def reach_table(rows: pd.DataFrame) -> Sheet:
    """The largest sizes that each implementation passed in each dtype."""
    ran = rows[(rows["verdict"] == "pass") & rows["case"].str.match("T[0-9]")]
    lines = [
        {"implementation": name, "dtype": dtype} | reached(group)
        for (name, dtype), group in ran.groupby(["implementation", "dtype"], sort=False)
    ]
    return Sheet(lines)


def reached(ran: pd.DataFrame) -> dict[str, str]:
    """The largest of each size among cases that passed, and in parentheses that of the forward pass if it is larger."""
    sizes = ran["case"].str.extract("".join(f"{letter}(?P<{letter}>[0-9]+)-?" for letter in "TBIHSZ")).astype(int)
    forward = ran["case"].str.endswith("-inference")
    largest = {}
    for letter in sizes:
        both, alone = (sizes[letter][chosen].max() for chosen in (~forward, forward))
        largest[letter] = f"{both} ({alone})" if alone > both else f"{both}"
    return largest


def ways(rows: pd.DataFrame) -> str:
    """A sentence with the worst error of each way to multiply bfloat16; empty if none was checked."""
    own = rows[rows["case"].isin(MULTIPLIED) & (rows["verdict"] != "skipped")]
    figures = (f"{case.split()[-1]} {ratio:.2f}" for case, ratio in zip(own["case"], own["ratio"], strict=True))
    return WAYS.format(", ".join(figures)) if len(own) else ""


def _steps(errors: pd.DataFrame) -> str:
    return f"{count(errors['T'].min())} to {count(errors['T'].max())}"


def faults_table(rows: pd.DataFrame) -> Sheet:
    """Faults that were planted and that were found, by kind."""
    faults = rows[rows["planted"] == "fault"]
    right = (faults["verdict"] == EXPECTED["fault"][0]).groupby([faults["kind"], faults["edit"]], sort=False).all()
    counts = right.groupby(level="kind", sort=False).agg(planted="size", found="sum")
    return Sheet(counts.reset_index().to_dict("records"), {"planted": count, "found": count})


def missed(rows: pd.DataFrame) -> str:
    """Faults that survived and rewrites that were rejected, as a list; empty if there are none."""
    wrong = rows[rows["verdict"] != rows["planted"].map({key: expected for key, (expected, _) in EXPECTED.items()})]
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
    parts += [ways(rows), REACH, reach_table(rows)]
    if faults is not None:
        parts += [FAULTS, faults_table(faults), missed(faults)]
    if can is not None:
        parts += [CAPABILITIES, *matrix(can)]
    return [part for part in parts if part]


PAGE = Page("verify", "Verification", _parts, others=("errors", "faults", "capabilities"))


def worst_table(ran: pd.DataFrame) -> Sheet:
    """Worst error of each implementation over all dtypes, and the dtype that it is in."""
    lines = []
    for name, group in ran.groupby("implementation", sort=False):
        worst = group.sort_values("ratio", na_position="first").iloc[-1]
        line = {"implementation": name, "dtypes": group["dtype"].nunique(), "cases": len(group)}
        lines.append(line | {"worst": worst["ratio"], "in": worst["dtype"], "verdict": _verdict(group)})
    return Sheet(lines, {"dtypes": count, "cases": count, "worst": two})


def not_run(reasons: Mapping[str, int], left_out: int) -> list[str]:
    """At most five lines: how many tests did not run, by kind of reason; left_out: of a run without `--thorough`."""
    kinds = Counter[str]()
    for reason, n in reasons.items():
        kinds[next((kind for kind, text in NOT_RUN.items() if re.search(text, reason)), reason.rstrip("."))] += n
    common = kinds.most_common()
    if len(common) > 4:
        common[3:] = [("other reasons, which `-rs` lists", sum(n for _, n in common[3:]))]
    lines = [f"{reason}: {n:,}" for reason, n in common]
    return lines + [f"more with --thorough: {left_out:,}"] * (left_out > 0)


def say(
    console: Console,
    rows: Mapping[str, pd.DataFrame],
    failed: Sequence[tuple[str, str]],
    reasons: Mapping[str, int],
    left_out: int = 0,
) -> None:
    """Print all of it except the answer, on a screen of 40 lines if nothing failed; failed: (test, its message)."""
    for test, message in failed:
        console.print(f"FAILED {test}\n    {message}", soft_wrap=True, markup=False, highlight=False)
    verify = rows.get("verify", pd.DataFrame())
    if len(verify) and len(ran := verify[verify["verdict"] != "skipped"]):
        worst_table(ran).show("Worst error against the equation, as a multiple of what is allowed", console)
    if "faults" in rows:
        console.print(f"\n{faults_lead(rows['faults'])}", highlight=False)
    if lines := not_run(reasons, left_out):
        console.print("\nTests that did not run:", highlight=False)
        for line in lines:
            console.print(f"  {line}", no_wrap=True, overflow="ellipsis", markup=False, highlight=False)


def answer(verify: pd.DataFrame, failed: int) -> str:
    """Line that says whether the implementations are right; "" if none was compared and nothing failed."""
    ran = verify[verify["verdict"] != "skipped"] if len(verify) else verify
    sentences = [f"{_some(failed, 'test')} FAILED."] * bool(failed)
    if len(ran):
        sentences.append(re.sub("[*`]", "", verdict(ran)))
        sentences += _compared_up_to(ran)
        others = verify[~verify["implementation"].isin(ran["implementation"])]
        # A row of another dtype may say only that the implementation does not compute in it.
        others = others.sort_values("dtype", key=lambda dtype: dtype != "float32", kind="stable")
        for _, row in others.drop_duplicates("implementation").iterrows():
            sentences.append("{implementation} was not checked: {reason}".format_map(row))
    return " ".join(sentences)


def _compared_up_to(ran: pd.DataFrame) -> list[str]:
    """The sizes to which the implementation that "auto" prefers was compared, in a sentence."""
    passed = ran[(ran["verdict"] == "pass") & ran["case"].str.match("T[0-9]") & (ran["reason"] != INTERPRETED)]
    compared = [impl for impl in IMPLS if not impl.experimental and impl.name in set(passed["implementation"])]
    if not compared:
        return []
    name = max(compared, key=lambda impl: impl.preference).name
    sizes = reached(passed[passed["implementation"] == name])
    return [f"{name} was compared up to {', '.join(f'{letter} {most}' for letter, most in sizes.items())}."]
