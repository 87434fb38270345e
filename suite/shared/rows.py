"""Every result file of a machine: its key, its columns with a sentence each, and the one way to put rows into it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite.shared import machine, trust
from suite.shared.cases import LADDER, RAGGED, TRAINING, VERIFY, VERIFY_TILES, VERIFY_TINY, WORKLOADS
from suite.shared.results import ResultsError, read, write_whole

#: What `put` adds to every row: which code it was made with, and where.
STAMP = {
    "device": "Kind of device: cpu or cuda.",
    "processor": "Name of the processor, with family and model where the name alone does not tell it from others.",
    "cpu_capability": "Widest vector instructions that torch uses on the CPU: AVX512, AVX2, DEFAULT, ...",
    "threads": "Threads that torch computes with on the CPU.",
    "torch": "Version of torch.",
    "python": "Version of Python.",
    "commit": "Commit of the checkout, with `dirty` after it where code was changed since; `unknown` outside git.",
    "sources": "Hash of the sources that the row rests on: implementations, tolerance rule, cases and draws.",
}
#: The order of values, by column; others come after these, numbers by size and all else as they came.
ORDER: Mapping[str, Sequence[str]] = {
    "implementation": LADDER,
    "part": LADDER,
    "dtype": ("float64", "float32", "tf32", "bfloat16", "float16"),
    "layer_norm": ("off", "on"),
    "pass": ("forward", "train"),
    "case": [TRAINING, *(case.id for case in (*VERIFY, *RAGGED, *VERIFY_TINY, *VERIFY_TILES))],
    "workload": list(WORKLOADS),
}


@dataclass(frozen=True)
class Table:
    """One result file of a machine: `<name>.csv`.

    key: the columns whose values a row is replaced by, in the order that rows are sorted by.
    columns: by name, what it holds. A row may lack some; a file has those that any of its rows has, and the stamp.
    listed: the columns whose values must still exist: in `ORDER`, or where that says nothing, in what `put` is told.
    newest_last: columns of the key that are sorted by when a value was put last.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    listed: tuple[str, ...] = ()
    newest_last: tuple[str, ...] = ()

    def path(self, folder: Path, part: str = "") -> Path:
        """Return the file in a machine's folder, or that of a part of a sweep, such as "shard-1-of-3"."""
        return folder / f"{self.name}{'.' * bool(part)}{part}.csv"

    def read(self, folder: Path, part: str = "") -> pd.DataFrame:
        """Return the rows in a machine's folder, none without a file; ResultsError if damaged or of two machines."""
        return self.load(self.path(folder, part))

    def load(self, path: Path) -> pd.DataFrame:
        """Return the rows of a file of this kind, see `read`."""
        rows = read(path, [*self.key, *STAMP])
        _of_one_machine(path, rows)
        return rows

    def put(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        device: torch.device,
        part: str = "",
        listed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Stamp rows that this process or a child of it made, and put them in place of those with the same key.

        listed: the values that exist, by column, of `listed` columns that `ORDER` does not know.
        ValueError names a column that is not declared; ResultsError what differs if the file is another machine's.
        """
        given = [dict(row) for row in rows]
        unknown = {column for row in given for column in row} - set(self.columns)
        if unknown:
            raise ValueError(f"{self.name}: expected columns declared in suite/shared/rows.py, got {sorted(unknown)}")
        self.replace(folder, [row | stamp(device) for row in given], part, listed)

    def replace(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        part: str = "",
        listed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Put rows that have their stamp in place of those with the same key; see `put`."""
        path, new = self.path(folder, part), pd.DataFrame(list(rows))
        if new.empty:
            return
        old, order = self.read(folder, part), {**ORDER, **(listed or {})}
        _of_one_machine(path, pd.concat([old, new]))
        if missing := set(self.listed) - set(order):
            raise ValueError(f"{self.name}: expected the values that there are of {sorted(missing)}, got none")
        for column in self.listed if len(old) else ():
            old = old[old[column].astype(str).isin(list(order[column]))]
        if len(old):
            fresh = set(new[list(self.key)].astype(str).itertuples(index=False, name=None))
            kept = [row not in fresh for row in old[list(self.key)].astype(str).itertuples(index=False, name=None)]
            new = pd.concat([old[kept], new], ignore_index=True) if any(kept) else new
        columns = [column for column in (*self.columns, *STAMP) if column in new]
        write_whole(path, self.ordered(new, listed)[columns].to_csv(index=False))

    def ordered(self, rows: pd.DataFrame, listed: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
        """Return rows as a file has them: by the columns of the key, the implementations down the ladder."""
        order: dict[str, Sequence[str]] = {**ORDER, **(listed or {})}
        ranks: dict[str, pd.Series] = {}
        for column in (c for c in self.key if c in rows):
            values = rows[column]
            if column in self.newest_last:
                known = list(values[::-1].astype(str).drop_duplicates())[::-1]
            elif column not in order and pd.api.types.is_numeric_dtype(values):
                ranks[column] = values
                continue
            else:
                known = list(dict.fromkeys([*order.get(column, ()), *values.astype(str)]))
            ranks[column] = values.astype(str).map({value: place for place, value in enumerate(known)})
        places = pd.DataFrame(ranks).sort_values(list(ranks), kind="stable").index if ranks else rows.index
        in_order: pd.DataFrame = rows.loc[places].reset_index(drop=True)
        return in_order


def stamp(device: torch.device) -> dict[str, Any]:
    """Return the columns that say which code a row was made with, and where."""
    return machine.environment(device) | trust.stamp()


def _of_one_machine(path: Path, rows: pd.DataFrame) -> None:
    """Raise ResultsError if rows were made on machines that compute differently."""
    for column in machine.told_apart_by(rows["device"].iloc[0]) if len(rows) else ():
        values = list(dict.fromkeys(rows[column].astype(str)))
        if len(values) > 1:
            raise ResultsError(
                f"{path}: expected rows of one machine, got {column} {' and '.join(values)}; nothing was written."
            )


_SIZES = {
    "T": "Steps of a sequence.",
    "B": "Sequences of a batch.",
    "I": "Features of the input.",
    "H": "Units of the main LSTM.",
    "S": "Units of the hyper LSTM.",
    "Z": "Size of the embeddings z.",
    "L": "Layers.",
}
_ABOUT = {
    "workload": "Name of the workload.",
    **_SIZES,
    "layer_norm": "Whether layer norm is on or off.",
    "implementation": "What was run: an implementation, or a peer such as torch.nn.LSTM.",
    "dtype": "Type of the numbers computed with; tf32 is float32 with products in TF32.",
}
_STUDY = {
    "part": "What a process of the study was about: an implementation, or the size that it varies.",
    "kind": "What the row is: its study says which kinds there are.",
    **_ABOUT,
    "status": "`ok`, or why there are no figures: refused, out of memory, time-out, crashed.",
}
_STUDY_KEY = ("workload", "dtype", "layer_norm", "part")
_VERDICT = {
    "error": "Relative L2 distance to the oracle.",
    "allowed": "The largest error that the tolerance rule allows.",
    "ratio": "The error as a multiple of what is allowed; above 1 the tensor is wrong.",
    "tensor": "The tensor that the figures are of: the worst one.",
}
_QUARTILES = {
    "median_s": "Median time of a pass, in seconds.",
    "q1_s": "Its first quartile.",
    "q3_s": "Its third quartile.",
    "rounds": "Rounds that were timed.",
}
_PEAK = "The most that torch's allocator held above parameters and input, and `graph_bytes`, in bytes."
_GRAPHS = "What CUDA graphs held, in bytes."
_KEPT = "What a forward pass leaves for the backward pass, in bytes."

#: In the order that their pages are listed in.
TABLES = (
    Table(
        "bench",
        ("dtype", "workload", "T", "B", "layer_norm", "implementation", "pass"),
        {
            "workload": _ABOUT["workload"],
            **_SIZES,
            "shortened": "Which sizes are below the paper's.",
            **_ABOUT,
            "pass": "forward, or train: a training step without its optimiser.",
            "status": "`ok`, or why there are no figures: refused, not run, out of memory, time-out, crashed.",
            **_QUARTILES,
            "baseline_s": "Median time of the rounds of torch.nn.LSTM in between, in seconds.",
            "ratio": "Median of the rounds' ratios to torch.nn.LSTM.",
            "ratio_low": "Lower end of its 95 % interval.",
            "ratio_high": "Upper end of its 95 % interval.",
            "loop_s": "Time of a pass among others that do not wait for one another, on a GPU, in seconds.",
            "loop_ratio": "That as a multiple of torch.nn.LSTM's.",
            "disturbed": "Rounds whose baseline took far longer than usual.",
            "clock_before_mhz": "Clock of the GPU before the first round.",
            "clock_after_mhz": "Clock of the GPU after the last round.",
            "throttled": "Rounds with a clock far below the fastest, or `unknown`.",
            "first_s": "First calls: on one step, then on all, in seconds.",
            "peak_bytes": _PEAK,
            "graph_bytes": _GRAPHS,
            "kept_bytes": _KEPT,
            "parameters": "Numbers that the model learns.",
            "multiply_adds": "Multiply-adds of the pass in the row-scaled form.",
            "work": "Multiply-adds over those of torch.nn.LSTM.",
            "least_bytes": "Bytes that a pass must move if caches hold all else.",
            "calls_per_step": "Operators called more for each step more.",
            "mode": "How kernels of batched_cuda were started: launched one by one, or as a graph.",
            "launches_per_step": "Kernels started for each step.",
            "job_s": "Time of the whole process, in seconds.",
            "verify": "What verify.csv said of the implementation: verified, unverified, stale, red, or peer.",
            "verify_rows": "Hash of the rows of verify.csv that say so.",
            "multiply_adds_per_s": "Rate that was reached.",
            "bound": "Which rate of the hardware bounds it: compute or memory.",
            "share": "The bound over the time taken.",
        },
        listed=("workload", "implementation"),
    ),
    Table(
        "verify",
        ("implementation", "dtype", "case"),
        {
            "implementation": _ABOUT["implementation"],
            "dtype": _ABOUT["dtype"],
            "case": "Sizes and form of the model, or `training`.",
            "verdict": "pass, FAIL or skipped.",
            **_VERDICT,
            "reason": "Why it was skipped, or `interpreted`.",
        },
        listed=("implementation", "case"),
    ),
    Table(
        "faults",
        ("edit", "dtype"),
        {
            "planted": "fault, or rewrite: the same function written otherwise.",
            "edit": "Name of the fault or rewrite.",
            "kind": "What kind of edit it is.",
            "implementation": "The implementation that it edits.",
            "dtype": _ABOUT["dtype"],
            "verdict": "rejected or SURVIVED of a fault, accepted or REJECTED of a rewrite.",
            "case": "The case that caught it first, or that came nearest to the limit.",
            **_VERDICT,
            "wrong": "Tensors found wrong in that case.",
        },
        listed=("edit",),
    ),
    Table(
        "errors",
        ("dtype", "implementation", "T", "layer_norm", "tensor"),
        {
            "implementation": _ABOUT["implementation"],
            "dtype": _ABOUT["dtype"],
            "T": _SIZES["T"],
            "layer_norm": _ABOUT["layer_norm"],
            "tensor": "The tensor that the figures are of.",
            "verdict": "pass, FAIL or `not run`.",
            "multiple": "The error as a multiple of the naive form's.",
            "error": _VERDICT["error"],
            "allowed": _VERDICT["allowed"],
            "naive": "The error of the naive form in the same dtype.",
            "reason": "Why it was not run.",
        },
        listed=("implementation",),
    ),
    Table(
        "capabilities",
        ("capability", "implementation"),
        {
            "capability": "What a module may be asked to do.",
            "implementation": _ABOUT["implementation"],
            "outcome": "pass, no, FAIL or `not run`.",
            "reason": "Why it is no pass.",
        },
        listed=("capability", "implementation"),
    ),
    Table(
        "kernels",
        ("size", "capability"),
        {
            "size": "Workload at whose sizes the kernel was compiled.",
            "layer_norm": "Whether with layer norm.",
            "arithmetic": "How products are made.",
            "capability": "Compute capability of the card, ten to the whole number.",
            "kernel": "Name of the kernel.",
            "rows": "Rows of the batch of a tile.",
            "units": "Units of a tile.",
            "depth": "Summands that a product takes at a time.",
            "num_warps": "Warps of a block.",
            "num_stages": "Stages of the software pipeline.",
            "registers": "Registers of a thread.",
            "stack_bytes": "Bytes of the stack of a thread: what spilled.",
            "shared_bytes": "Shared memory of a block, in bytes.",
            "shared_limit": "Shared memory that a block may have on the card, in bytes.",
            "product": "Whether the kernel multiplies matrices.",
            "tensor_cores": "Whether its instructions use tensor cores.",
            "seconds": "Time to compile it.",
            "triton": "Version of Triton.",
        },
    ),
    Table(
        "hardware",
        ("dtype",),
        {
            "dtype": _ABOUT["dtype"],
            "multiply_adds_per_s": "Rate of the fastest large product of matrices.",
            "bytes_per_s": "Rate of a large copy, read and written.",
            "side": "Rows of the square matrices.",
            "product": "What multiplied them.",
            "copied_bytes": "Size of the copy.",
        },
    ),
    Table(
        "paper",
        ("model",),
        {
            "model": "Name of the model in the paper's tables.",
            "table": "Number of the table.",
            **{size: _SIZES[size] for size in "IHSZL"},
            "layer_norm": _ABOUT["layer_norm"],
            "outputs": "Outputs of the last layer.",
            "paper_millions": "Parameters as the paper prints them, in millions.",
            "parameters": "Parameters of this definition, with an output layer.",
            "verdict": "matched or missed.",
            "weights": "Parameters of the recurrent layers but for what follows.",
            "z_weights": "Weights from the hyper LSTM's output to z.",
            "norms": "Parameters of the layer norms.",
            "output_weights": "Weights of the output layer.",
            "output_biases": "Biases of the output layer.",
            "second_biases": "Biases that torch.nn.LSTM has on top.",
            "embedding": "Parameters of an embedding of the input.",
            "miss": "What is known of a miss.",
        },
        listed=("model",),
    ),
    Table(
        "memory",
        _STUDY_KEY,
        {
            **_STUDY,
            "weight_bytes": "Weights that the naive form's tensor is made of.",
            "peak_bytes": _PEAK,
            "graph_bytes": _GRAPHS,
            "reserved_bytes": "What the caching allocator then had of the device, parameters and input included.",
            "forward_bytes": "Peak of a forward pass without gradient.",
            "parameter_bytes": "Parameters of the model.",
            "kept_bytes": _KEPT,
            "gradient_bytes": "Gradients that a step leaves.",
            "workspace_bytes": "Rest of the peak.",
            "longest": "The longest T that fits, as predicted.",
            "limit_bytes": "The memory that it is to fit in.",
            "predicted_bytes": "The peak that the fitted line predicts.",
        },
        listed=("implementation",),
        newest_last=("workload", "dtype"),
    ),
    Table(
        "scaling",
        _STUDY_KEY,
        {
            **_STUDY,
            **_QUARTILES,
            "peak_bytes": _PEAK,
            "multiply_adds": "Multiply-adds of a forward pass.",
            "n": "Value of the size that varies.",
            "held_out": "Whether the point is kept from the fit.",
            "slow_s": "Time of a step above which an implementation goes no further, in seconds.",
        },
        listed=("implementation",),
        newest_last=("workload", "dtype"),
    ),
    Table(
        "payback",
        _STUDY_KEY,
        {
            **_STUDY,
            "first_s": "First training step of a process, with all that it builds, in seconds.",
            "step_s": "Median of later steps, in seconds.",
            "rounds": "Later steps.",
        },
        listed=("implementation",),
        newest_last=("workload", "dtype"),
    ),
    Table(
        "text",
        _STUDY_KEY,
        {
            **_STUDY,
            "seconds": "Time that the model has trained.",
            "steps": "Steps that it has taken.",
            "characters": "Characters that it has read.",
            "bits": "Bits per character of held-out text.",
            "parameters": "Numbers that the model learns.",
            "sha256": "Hash of the text.",
            "width": "Units of the recurrent layer.",
            "learning_rate": "Learning rate of Adam.",
            "clip": "Norm that gradients are clipped at.",
            "held_out_share": "Share of the text that nothing trains on.",
        },
        newest_last=("workload", "dtype"),
    ),
)


def table(name: str) -> Table:
    """Return the table of that name; ValueError lists those there are."""
    for found in TABLES:
        if found.name == name:
            return found
    raise ValueError(f"table: expected one of {', '.join(table.name for table in TABLES)}; got {name!r}")
