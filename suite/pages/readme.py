"""What README.md shows of the results: figures and a table, of one machine for each kind of device, and a sentence.

Of several machines it shows one whose benchmark is not stale; of these the one with the most training rows of WORKLOAD
that have an interval; then the newest; then the one with the most visits. Only if all are equal, the first by name.
"""

from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from impls.registry import IMPLS, Impl
from suite.candidates.names import BASELINE
from suite.pages.bench import INTERVALS_SHOWN, PAGE, TRAINING, WORKLOAD, readme_rows, training, training_caption
from suite.pages.bench_tables import ratio_column
from suite.pages.benchmark import Benchmark
from suite.pages.headline import headline
from suite.pages.markdown import ON_PAGE, Markdown, escaped
from suite.pages.page import Column, Link, NoFigure, Part, Plot, Sheet, page_text
from suite.results.format import dates, machine, ratio_text
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome
from suite.results.provenance import source_path, stale
from suite.results.statistics import interval
from suite.results.status import Status
from suite.results.tables import TABLES
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT

README = ROOT / "README.md"
TIME_HEADING = f"training time / {BASELINE}"
MEMORY_HEADING = f"peak memory / {BASELINE}"
#: Types of devices in the order of README.md, and their names in it.
DEVICES = {DeviceType.CPU: "CPU", DeviceType.CUDA: "GPU"}
#: A benchmark by type of device.
Machines = Mapping[DeviceType, Benchmark]


def implementations(machines: Machines) -> Sheet:
    """When to pick each implementation, and its training time and peak memory on each kind of device."""
    name, summary = Column("implementation"), Column("when to pick it")
    times = dict[DeviceType, Column]()
    memories = dict[DeviceType, Column]()
    for device in machines:
        start = f"{DEVICES[device]}: " if len(machines) > 1 else ""
        times[device] = ratio_column(f"{start}{TIME_HEADING}")
        memories[device] = Column(f"{start}{MEMORY_HEADING}", ratio_text)
    rows = {device: readme_rows(benchmark).set_index("implementation") for device, benchmark in machines.items()}
    lines = []
    for impl in IMPLS:
        module = impl.module
        if module is None:  # it is none of the project's
            continue
        mark = ", *experimental*" if impl.experimental else ""
        source = Link(Markdown(f"`{impl.name}`"), source_path(ROOT, module).relative_to(ROOT))
        line: dict[Column, Any] = {name: Markdown(f"{source.markdown()}{mark}"), summary: Markdown(impl.summary)}
        for device, timed in rows.items():
            row = timed.loc[impl.name] if impl.name in timed.index else None
            if row is not None and row["status"] == Status.OK:
                line[times[device]] = interval(row)
                line[memories[device]] = row["memory_ratio"]
            else:
                line[times[device]] = NoFigure(why_not(impl, row, device))
        lines.append(line)
    columns = [name, summary]
    for device in machines:
        columns += [times[device], memories[device]]
    return Sheet(columns, lines)


def why_not(impl: Impl, row: pd.Series | None, device: DeviceType) -> str:
    """Why an implementation has no training time on a device: it needs another one, or the status of its row."""
    if device not in impl.devices:
        needed = " or ".join(DEVICES[DeviceType(required)] for required in impl.devices)
        return f"needs a {needed}"
    return Status.NOT_RUN if row is None else str(row["status"])


def precedence(folder: Path) -> tuple[bool, bool, int, str]:
    """Sort key of machines in lists: benchmarks that are not stale first, then GPUs, then the newest."""
    rows = TABLES[TableName.BENCH].read(folder)
    if rows.empty:
        return True, True, 0, folder.name
    is_stale = bool(stale(TableName.BENCH, rows).any())
    on_cpu = bool((rows["device"] != DeviceType.CUDA).any())
    return is_stale, on_cpu, -_newest(rows), folder.name


def _newest(rows: pd.DataFrame) -> int:
    """Number of the last day on which rows were measured."""
    return date.fromisoformat(max(rows["date"])).toordinal()


def _preference(folder: Path) -> tuple[bool, int, int, int]:
    """Sort key of machines of one kind of device, see the head of this file."""
    rows = TABLES[TableName.BENCH].read(folder)
    is_stale = bool(stale(TableName.BENCH, rows).any())
    known = int(readme_rows(Benchmark.of(rows))["ratio_low"].notna().sum())
    visits = int(rows["visits"].sum())
    return is_stale, -known, -_newest(rows), -visits


def folders_of_machines(results: Path) -> list[Path]:
    """Folders of machines with results, by name."""
    return sorted(path for path in results.iterdir() if any(path.glob("*.csv")))


def chosen(results: Path) -> dict[DeviceType, Path]:
    """Folder of the machine that README.md shows of each kind of device; none where none has timed `WORKLOAD`."""
    folders: dict[DeviceType, list[Path]] = {device: [] for device in DEVICES}
    for folder in folders_of_machines(results):
        rows = TABLES[TableName.BENCH].read(folder)
        if len(rows) and readme_rows(Benchmark.of(rows))["ratio"].notna().any():
            device = DeviceType(rows["device"].iloc[0])
            folders[device].append(folder)
    return {device: min(every, key=_preference) for device, every in folders.items() if every}


def parts(results: Path) -> dict[str, list[Part]]:
    """Parts of README.md by the name of the markers around them; of figures none if no machine has timed `WORKLOAD`."""
    folders = chosen(results)
    of_gpus: dict[str, list[Part]] = {"gpu": [about_gpus(results)]}
    if not folders:
        return of_gpus
    machines = dict[DeviceType, Benchmark]()
    figures = list[Part]()
    for device, folder in folders.items():
        rows = TABLES[TableName.BENCH].read(folder)
        machines[device] = Benchmark.of(rows)
        old = bool(stale(TableName.BENCH, rows).any())
        figures += figure(folder, machines[device], results.name, old=old)
    return of_gpus | {"figure": figures, "implementations": [about_table(machines), implementations(machines)]}


def figure(folder: Path, benchmark: Benchmark, results: str, *, old: bool) -> list[Part]:
    """Plot of a machine, its headline, and what they are.

    results: name of the folder with all machines. old: whether rows are stale.
    """
    timed = readme_rows(benchmark).dropna(subset="ratio")
    where = Path(results, folder.name)
    page = Link(PAGE.name, PAGE.path(where))
    index = Link("results", Path(results, README.name))
    caption = training_caption(timed.iloc[0])
    when = f"{dates(timed)}. Code has changed since." if old else f"{dates(timed)}."
    measured = escaped(f"{caption}, on {machine(timed.iloc[0])}, {when}")
    about = Markdown(
        f"{measured} Ratios to `{BASELINE}` are medians of visits to "
        f"fresh processes; in parentheses are 95 % confidence intervals. A bar is the ratio times the median of "
        f"`{BASELINE}`: {INTERVALS_SHOWN}. Other workloads: {page.markdown()}; other machines: "
        f"{index.markdown()}."
    )
    sentences = Markdown("\n".join(f"- {sentence}" for sentence in headline(benchmark, ON_PAGE)))
    plot = Plot(TRAINING, caption, partial(training, timed), has_file=True, folder=where)
    return [plot, sentences, about]


def about_table(machines: Machines) -> Markdown:
    """What the table of implementations was timed on."""
    rows = [readme_rows(benchmark).dropna(subset="ratio").iloc[0] for benchmark in machines.values()]
    timed_on = [f"{row['dtype']} on {machine(row)}" for row in rows]
    sizes = " or ".join(dict.fromkeys(f"T {row['T']}, B {row['B']}" for row in rows))
    workload = f"{WORKLOAD} ({sizes}), without layer norm"
    return escaped(f"Times and memory are of training steps on {workload}, in {'; in '.join(timed_on)}.")


def about_gpus(results: Path) -> Markdown:
    """Whether implementations that are experimental have results on a GPU, a sentence for each."""
    sentences = []
    for impl in IMPLS:
        if impl.experimental:
            where = ", ".join(on_gpus(results, impl.name))
            has = f"results on {where}" if where else "no results on a GPU yet"
            sentences.append(f"`{impl.name}` is *experimental*: it has {has}.")
    return Markdown(" ".join(sentences))


def on_gpus(results: Path, implementation: str) -> list[Markdown]:
    """Markdown of the GPUs on which an implementation was verified or timed, with links to the rows."""
    machines = list[Markdown]()
    for folder in folders_of_machines(results):
        for table, has_result in ((TableName.VERIFY, _was_compared), (TableName.BENCH, _was_timed)):
            rows = TABLES[table].read(folder)
            if len(rows):
                on_gpu = (rows["device"] == DeviceType.CUDA) & (rows["implementation"] == implementation)
                rows = rows[on_gpu & has_result(rows)]
            if len(rows):
                file = TABLES[table].path(Path(results.name, folder.name))
                name = escaped(machine(rows.iloc[0]))
                machines.append(Markdown(f"{name} ({Link(table, file).markdown()}, {dates(rows)})"))
    return machines


def _was_compared(rows: pd.DataFrame) -> pd.Series:
    """True for each row of verify.csv that passed on its device: Triton's interpreter runs kernels on the CPU."""
    compared: pd.Series = (rows["verdict"] == CaseOutcome.PASS) & ~rows["interpreted"]
    return compared


def _was_timed(rows: pd.DataFrame) -> pd.Series:
    """True for each row of bench.csv with figures."""
    timed: pd.Series = rows["status"] == Status.OK
    return timed


def updated(results: Path) -> str:
    """README.md with each part between the two markers of its name; ValueError unless it has each of them once."""
    text = README.read_text(encoding="utf-8")
    for name, content in parts(results).items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        for marker in (start, end):
            if text.count(marker) != 1:
                raise ValueError(f"{README.name}: expected {marker.strip()} once, got it {text.count(marker)} times")
        before, _, started = text.partition(start)
        _, ended, after = started.partition(end)
        if not ended:
            raise ValueError(f"{README.name}: expected {end} behind {start.strip()}, got it before")
        text = f"{before}{start}{page_text(content)}{end}{after}"
    return text
