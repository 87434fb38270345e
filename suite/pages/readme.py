"""What README.md shows of the results: a figure and a table, of one machine."""

from pathlib import Path

import pandas as pd

from impls.registry import IMPLS
from suite.candidates.names import BASELINE
from suite.cases.workloads import SHOWN
from suite.pages import text
from suite.pages.bench import INTERVALS_SHOWN, TRAINING, training_caption
from suite.pages.headline import certain, facts
from suite.pages.ranking import FEW_VISITS, fastest, quoted, ranked
from suite.results.format import NONE, machine, ratio_text, with_interval
from suite.results.run import Run
from suite.results.statistics import interval
from suite.results.status import Status
from suite.shared.files import ROOT

README = ROOT / "README.md"
#: The machine whose benchmark README.md shows, by its folder under results/.
MACHINE = "amd-epyc-avx512-bf16-avx512-2-threads"


def implementations(rows: pd.DataFrame, device: str) -> str:
    """Markdown of a table: when to pick each implementation, its training time and memory; rows: of training."""
    timed = rows.set_index("implementation")
    lines = [f"| implementation | when to pick it | training time / {BASELINE} | peak memory / {BASELINE} |"]
    lines.append("| --- | --- | ---: | ---: |")
    for impl in IMPLS:
        if impl.module is None:  # it is none of the project's
            continue
        needs = "GPU" if "cuda" in impl.devices else "CPU"
        time, memory = Status.NOT_RUN if device in impl.devices else f"needs a {needs}", NONE
        if impl.name in timed.index:
            row = timed.loc[impl.name]
            ok = row["status"] == Status.OK
            time = with_interval(interval(row)) if ok else row["status"]
            memory = ratio_text(row["memory_ratio"]) if ok else NONE
            if row["verdict"] == FEW_VISITS:
                time += f", *{FEW_VISITS}*"
        path = impl.module.replace(".", "/")
        file = path if (ROOT / path).is_dir() else f"{path}.py"
        mark = ", *experimental*" if impl.experimental else ""
        lines.append(f"| [`{impl.name}`]({file}){mark} | {impl.summary} | {time} | {memory} |")
    return "\n".join(lines)


def updated(run: Run, folder: Path) -> str:
    """README.md with what it shows between markers; ValueError unless it has each of them once."""
    every = ranked(run.rows)
    rows = quoted(every, run.device, [SHOWN])
    row = rows.dropna(subset="ratio").iloc[0]
    sentences = [facts(ours, rows) for _, ours in certain(fastest(rows)).iterrows()]
    with_norm = every[(every[["workload", "dtype"]] == row[["workload", "dtype"]]).all(axis=1) & every["layer_norm"]]
    for _, ours in certain(fastest(with_norm)).iterrows():
        sentences.append(
            f"With layer norm, `{ours['implementation']}` takes {with_interval(interval(ours))} times as long."
        )
    shown = text.page(
        "readme.md",
        folder=folder.relative_to(ROOT).as_posix(),
        caption=training_caption(row),
        file=TRAINING,
        facts=sentences,
        machine=machine(run),
        date=run.date,
        workload=f"{SHOWN} (T {row['T']}, B {row['B']}), without layer norm, in {row['dtype']}",
        baseline=BASELINE,
        intervals=INTERVALS_SHOWN,
        implementations=implementations(rows, run.device),
        few=FEW_VISITS,
    )
    before = README.read_text(encoding="utf-8")
    for part in shown.split("<!-- part -->\n")[1:]:
        start, end = part.splitlines()[0] + "\n", part.splitlines()[-1]
        if before.count(start) != 1 or before.count(end) != 1:
            raise ValueError(f"{README.name}: expected {start.strip()} and {end} once")
        before = before.partition(start)[0] + part.rstrip() + before.partition(end)[2]
    return before
