"""The page of verification, and its summary in a terminal: are the implementations right, would wrong ones be found."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from impls.registry import IMPLS
from suite.pages.page import Others, Page
from suite.pages.sheets import Part, Sheet
from suite.shared.cases import INTERPRETED, MULTIPLIED
from suite.shared.format import count, ratio_text

#: By what is planted, the verdict that it should have, and its name.
EXPECTED = {"fault": ("rejected", "planted faults were found"), "rewrite": ("accepted", "equivalent rewrites passed")}

ERRORS = """## Errors

Each implementation is compared with the naive form in float64, in each of its dtypes, on the same rounded numbers and
with random parameters: output, final states, and the gradients of all parameters, inputs and given states. *worst* is
the largest error as a multiple of what the tolerance rule in `suite/checks/README.md` allows, and *tensor* where it
occurred.
"""
WAYS = "Worst errors of batched_cpu by its ways to multiply bfloat16: {}.\n"
FAULTS = """## Planted faults

A fault is an edit of the code that makes a correct implementation wrong. It is *found* if the comparison rejects the
tensor that the fault damages; a fault in a gradient must leave the output passing. A rewrite changes the code, but not
the function, and must pass.
"""
REACH = """## Compared up to

The largest of each size at which an implementation was compared, output, states and all gradients; in parentheses if
larger, of the forward pass alone. The oracle of wide cases, from H 31 on, is row_scaled in float64, which is compared
with the naive form and with numerical derivatives at H 128.
"""
CAPABILITIES = """## Capabilities

Each cell is a check that ran: `pass`; `no` if the implementation refuses with a sentence, or needs too much
memory; `FAIL` for any other error or a wrong number; `not run` with the reason.
"""
#: Reasons why a test did not run, as the end of a run sums them up, and what each of its words is in.
NOT_RUN = {
    "no GPU": r"on cuda, not on cpu|\bCUDA device|\bGPU\b",
    "not on this processor": r"^This processor ",
    "not installed": r"[Nn]ot installed|is not here",
    "not in this dtype": r" computes in .*, not in ",
}


def conclusion(tables: Mapping[str, pd.DataFrame]) -> str:
    """Whether all comparisons passed, which implementations were only interpreted, and which faults were found."""
    verify, sentences = tables.get("verify", pd.DataFrame()), list[str]()
    ran = verify[verify["verdict"] != "skipped"] if len(verify) else verify
    if len(ran):
        failed = ran[ran["verdict"] == "FAIL"].drop_duplicates(["implementation", "dtype"])
        every, native = (each["implementation"].unique() for each in (ran, ran[ran["reason"] != INTERPRETED]))
        if len(failed):
            named = ", ".join(failed["implementation"] + " in " + failed["dtype"])
            sentences.append(f"**Verification failed**: {named}.")
        else:
            compared = f"{_some(len(every), 'implementation')}, {_some(len(ran), 'comparison')}"
            worst = f"worst error {ran['ratio'].max():.2f} of the limit"
            sentences.append(f"All comparisons with the equation passed: {compared}, {worst}.")
        sentences += [f"`{name}` was only interpreted." for name in every if name not in native]
    if "faults" in tables:
        sentences.append(faults_found(tables["faults"]))
    return " ".join(sentences)


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def faults_found(rows: pd.DataFrame) -> str:
    """How many of the planted faults were found, and how many of the rewrites passed, in a sentence."""
    parts = []
    for planted, (expected, what) in EXPECTED.items():
        right = (rows["verdict"] == expected)[rows["planted"] == planted].groupby(rows["edit"]).all()
        if len(right):
            parts.append(f"{right.sum()} of {len(right)} {what}")
    return f"{', '.join(parts)}."


def worst_errors(rows: pd.DataFrame, by: Sequence[str] = ("implementation", "dtype")) -> Sheet:
    """The worst error of each implementation in each dtype, or of each implementation in all of them."""
    lines = []
    for _, group in rows.groupby(list(by), sort=False):
        ran = group[group["verdict"] != "skipped"].sort_values("ratio", na_position="first")
        worst = (ran if len(ran) else group).iloc[-1]
        line = {"implementation": worst["implementation"], "dtype": worst["dtype"], "cases": len(ran)}
        line |= {"worst": worst["ratio"], "tensor": worst["tensor"] or worst["reason"], "verdict": "skipped"}
        if len(ran):
            failed = int((ran["verdict"] == "FAIL").sum())
            line["verdict"] = f"{failed} FAILED" if failed else "pass"
            if (ran["reason"] == INTERPRETED).all():
                line["verdict"] += ", interpreted"
        lines.append(line)
    return Sheet(lines, {"cases": count, "worst": ratio_text})


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
    parts: list[Part] = [conclusion({"verify": rows, **others}), ERRORS, worst_errors(rows), ways(rows)]
    parts += [REACH, reach_table(rows)]
    if "faults" in others:
        parts += [FAULTS, faults_table(others["faults"]), missed(others["faults"])]
    if "capabilities" in others:
        parts += [CAPABILITIES, *matrix(others["capabilities"])]
    return [part for part in parts if part]


PAGE = Page("verify", "Verification", _parts, others=("faults", "capabilities"))


def not_run(reasons: Mapping[str, int], left_out: int) -> list[str]:
    """At most five lines: how many tests did not run, by kind of reason; left_out: of a run without `--thorough`."""
    kinds = Counter[str]()
    for reason, n in reasons.items():
        kinds[next((kind for kind, text in NOT_RUN.items() if re.search(text, reason)), reason.rstrip("."))] += n
    common = kinds.most_common()
    if len(common) > 4:
        common[3:] = [("other reasons, which `-rs` lists", sum(n for _, n in common[3:]))]
    if left_out:
        common.append(("more with --thorough", left_out))
    return [f"{kind}: {n:,}" for kind, n in common]


def print_summary(
    console: Console,
    tables: Mapping[str, pd.DataFrame],
    failed: Sequence[tuple[str, str]],
    reasons: Mapping[str, int],
    left_out: int = 0,
) -> None:
    """Print the end of a verification but for its last line; failed: (test, its message)."""
    for test, message in failed:
        console.print(f"FAILED {test}\n    {message}", soft_wrap=True, markup=False, highlight=False)
    verify = tables.get("verify", pd.DataFrame())
    if len(verify) and len(ran := verify[verify["verdict"] != "skipped"]):
        columns = ["implementation", "cases", "worst", "dtype", "verdict"]
        title = "Worst error against the equation, as a multiple of what is allowed"
        worst_errors(ran, by=["implementation"]).only(columns).show(title, console)
    if lines := not_run(reasons, left_out):
        console.print("\nTests that did not run:", highlight=False)
        for line in lines:
            console.print(f"  {line}", no_wrap=True, overflow="ellipsis", markup=False, highlight=False)


def last_line(tables: Mapping[str, pd.DataFrame], failed: int) -> str:
    """Whether the implementations are right, in one line; "" if nothing was compared and nothing failed."""
    verify, sentences = tables.get("verify", pd.DataFrame()), list[str]()
    if failed:
        sentences.append(f"{_some(failed, 'test')} FAILED.")
    if text := conclusion(tables):
        sentences.append(re.sub("[*`]", "", text))
    if len(verify):
        ran = verify[verify["verdict"] != "skipped"]
        sentences += _compared_up_to(ran)
        others = verify[~verify["implementation"].isin(ran["implementation"])]
        # A row of another dtype may say only that the implementation does not compute in it.
        others = others.sort_values("dtype", key=lambda dtype: dtype != "float32", kind="stable")
        for _, row in others.drop_duplicates("implementation").iterrows() if len(ran) else ():
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
