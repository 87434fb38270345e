"""The page of verification and its conclusion: whether the implementations are right, and faults would be found."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import pandas as pd

from impls import names
from impls.definition import dtype_name
from impls.registry import find
from suite.pages.markdown import ON_PAGE, Markdown, Markup, escaped
from suite.pages.page import IMPLEMENTATION, VERDICT, Body, Column, OtherTables, Page, Part, Sheet
from suite.results.format import count, ratio_text
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome, FaultOutcome, deciding, ran

ERRORS = Markdown("""## Errors

What is compared is the output, the final states and, in training, the gradients that arrive at parameters, inputs and
initial states, with random parameters. It is compared on the same rounded numbers with the naive form in float64, or
with row_scaled in float64 where that form would be too large. *cases* is the number of comparisons that ran here,
*worst* the largest error as a multiple of what the tolerance rule in `suite/checks/README.md` allows, *tensor* the
tensor with that error, and *use* how the model was used there, if it was not in a plain call.
""")
FAULTS = Markdown("""## Planted faults

A fault is an edit of the code that makes a correct implementation wrong. It is *found* if the comparison rejects the
tensor that the fault damages; a fault in a gradient must leave the output passing.
""")
REACH = Markdown("""## Compared up to

For each size, the largest at which output, states and all gradients were compared; in parentheses, a larger one at
which only the forward pass was. At the sizes that people run, from H 31 on, the oracle is row_scaled in float64, which
itself is compared with the naive form at H 128.
""")
#: The sizes of that table.
REACHED = ("T", "B", "I", "H", "S", "Z")
DTYPE = Column("dtype")
CASES, WORST = Column("cases", count), Column("worst", ratio_text)
TENSOR, USE = Column("tensor"), Column("use")
CAPABILITIES = Markdown("""## Capabilities

Each cell is a check that ran: `pass`; `no` if the implementation refuses with a sentence, or needs too much
memory; `FAIL` for any other error or a wrong number; `not run` with the reason; `-` where no run tested it.
""")


class Reach(NamedTuple):
    """The largest of a size in training, 0 without any, and the largest of all."""

    trained: int
    forward: int

    def __str__(self) -> str:
        return f"{self.trained} ({self.forward})" if self.forward > self.trained else str(self.trained)


def conclusion(tables: Mapping[TableName, pd.DataFrame], markup: Markup, failed: int = 0) -> str:
    """Whether all comparisons passed, what was only interpreted or not checked, and which faults were found.

    failed: number of tests that failed. "" if nothing was compared, planted or failed.
    """
    sentences = list[str]()
    if failed:
        sentences.append(f"{_some(failed, 'test')} FAILED.")
    if TableName.VERIFY in tables:
        sentences += _of_comparisons(tables[TableName.VERIFY], markup)
    if TableName.FAULTS in tables:
        found = faults_found(tables[TableName.FAULTS])
        sentences.append(f"{sum(found.values())} of {len(found)} planted faults were found.")
    return " ".join(sentences)


def _of_comparisons(rows: pd.DataFrame, markup: Markup) -> list[str]:
    """Sentences of the conclusion about rows of verify.csv; none if nothing was compared."""
    compared = ran(rows)
    if compared.empty:
        return []
    implementations = compared["implementation"].unique()
    sentences = list[str]()
    wrong = compared[compared["verdict"] == CaseOutcome.FAIL].drop_duplicates(["implementation", "dtype"])
    if len(wrong):
        which = ", ".join(f"{row['implementation']} in {row['dtype']}" for _, row in wrong.iterrows())
        sentences.append(f"{markup.strong('Verification failed')}: {markup.escape(which)}.")
    else:
        of_what = f"{_some(len(implementations), 'implementation')}, {_some(len(compared), 'comparison')}"
        worst = f"worst error {compared['ratio'].max():.2f} of the limit"
        sentences.append(f"All comparisons with the equation passed: {of_what}, {worst}.")
    native = set(compared["implementation"][~compared["interpreted"]])
    sentences += [f"{markup.code(name)} was only interpreted." for name in implementations if name not in native]
    unchecked = rows[~rows["implementation"].isin(implementations)]
    for name, skipped in unchecked.groupby("implementation", sort=False):
        reason = markup.escape(_why_skipped(str(name), skipped))
        sentences.append(f"{markup.code(str(name))} was not checked: {reason}")
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
    found = dict.fromkeys(rows["edit"], True)
    for row in rows.to_dict("records"):
        if row["verdict"] != FaultOutcome.REJECTED:
            found[row["edit"]] = False
    return found


def faults_table(rows: pd.DataFrame) -> Sheet:
    """How many faults were planted and found, by kind."""
    kind, planted, found = Column("kind"), Column("planted", count), Column("found", count)
    is_found = faults_found(rows)
    lines = []
    for name, of_kind in rows.groupby("kind", sort=False):
        edits = of_kind["edit"].unique()
        lines.append({kind: name, planted: len(edits), found: sum(is_found[edit] for edit in edits)})
    return Sheet([kind, planted, found], lines)


def missed(rows: pd.DataFrame) -> Markdown:
    """Faults that survived, as a list; "" if there are none."""
    survived = rows[rows["verdict"] != FaultOutcome.REJECTED]
    texts = ["{edit}, in {implementation}, {dtype}: {verdict}".format_map(row) for _, row in survived.iterrows()]
    return Markdown("\n".join(f"- {escaped(text)}" for text in texts))


def worst_errors(rows: pd.DataFrame, by: Sequence[str] = ("implementation", "dtype")) -> Sheet:
    """The worst error of each implementation in each dtype, or of each implementation in all of them."""
    lines = []
    for _, group in rows.groupby(list(by), sort=False):
        compared = ran(group)
        worst = deciding(group, by).iloc[0]
        failures = int((compared["verdict"] == CaseOutcome.FAIL).sum())
        verdict = f"{failures} FAILED" if failures else str(worst["verdict"])
        if len(compared) and compared["interpreted"].all():
            verdict += ", interpreted"
        line = {
            IMPLEMENTATION: worst["implementation"],
            DTYPE: worst["dtype"],
            CASES: len(compared),
            WORST: worst["ratio"],
            TENSOR: worst["tensor"] or worst["finding"] or worst["reason"],
            USE: worst["use"] or None,
            VERDICT: verdict,
        }
        lines.append(line)
    return Sheet([IMPLEMENTATION, DTYPE, CASES, WORST, TENSOR, USE, VERDICT], lines)


def worst_view(rows: pd.DataFrame) -> Sheet:
    """The worst error of each implementation and the dtype that it is in, for a terminal."""
    columns = [IMPLEMENTATION, CASES, WORST, DTYPE, TENSOR, USE, VERDICT]
    return replace(worst_errors(rows, by=["implementation"]), columns=columns)


def reach_table(rows: pd.DataFrame) -> Sheet:
    """The largest sizes that each implementation passed in each dtype, in parentheses if only the forward pass did."""
    columns = {size: Column(size, str, attrgetter("trained")) for size in REACHED}
    passed = rows[(rows["verdict"] == CaseOutcome.PASS) & rows["T"].notna()]
    lines = []
    for (name, dtype), group in passed.groupby(["implementation", "dtype"], sort=False):
        line: dict[Column, Any] = {IMPLEMENTATION: name, DTYPE: dtype}
        trained = group[~group["forward_only"]]
        for size, column in columns.items():
            with_gradients = int(trained[size].max()) if len(trained) else 0
            line[column] = Reach(with_gradients, int(group[size].max()))
        lines.append(line)
    return Sheet([IMPLEMENTATION, DTYPE, *columns.values()], lines)


def matrix(rows: pd.DataFrame) -> list[Part]:
    """Capabilities by implementation, and below them the reasons that the cells number."""
    capability = Column("")
    columns = {name: Column(Markdown(f"`{name}`")) for name in rows["implementation"].unique()}
    numbers = dict[str, int]()
    lines = []
    for name, group in rows.groupby("capability", sort=False):
        line = {capability: name}
        for row in group.to_dict("records"):
            cell = str(row["outcome"])
            if row["reason"]:
                number = numbers.setdefault(row["reason"], len(numbers) + 1)
                cell += f" ({number})"
            line[columns[row["implementation"]]] = cell
        lines.append(line)
    notes = [f"{number}. {escaped(reason)}" for reason, number in numbers.items()]
    return [Sheet([capability, *columns.values()], lines), Markdown("\n".join(notes))]


def _body(rows: pd.DataFrame, others: OtherTables) -> Body:
    parts: list[Part] = [ERRORS, worst_errors(rows), REACH, reach_table(rows)]
    if TableName.FAULTS in others:
        parts += [FAULTS, faults_table(others[TableName.FAULTS]), missed(others[TableName.FAULTS])]
    if TableName.CAPABILITIES in others:
        parts += [CAPABILITIES, *matrix(others[TableName.CAPABILITIES])]
    return Body(Markdown(conclusion({TableName.VERIFY: rows, **others}, ON_PAGE)), parts)


PAGE = Page(TableName.VERIFY, "Verification", _body, others=(TableName.FAULTS, TableName.CAPABILITIES))
