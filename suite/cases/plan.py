"""What a benchmark without options times on each kind of device: one table, which `nox -s bench -- --list` prints.

Beside every line, `torch.nn.LSTM` is timed in its workload and dtypes, with packed sequences also on the padded batch.
What a candidate lacks, such as layer norm, is left out of its line.
"""

from collections.abc import Sequence
from typing import NamedTuple

from suite.shared.devices import DeviceType


class Line(NamedTuple):
    """Candidates on a workload, with layer norm off, on, or both, in some dtypes, or without any in DTYPES."""

    workload: str
    candidates: Sequence[str]
    layer_norms: tuple[bool, ...] = (False, True)
    dtypes: tuple[str, ...] = ()


#: By kind of device, the dtypes of a line that names none.
DTYPES = {DeviceType.CPU: ("float32",), DeviceType.CUDA: ("float32", "bfloat16")}
OFF, ON = (False,), (True,)
#: Without a GPU, bfloat16 is timed on a processor that multiplies it.
PLAN: dict[DeviceType, tuple[Line, ...]] = {
    DeviceType.CPU: (
        Line("small", ["batched", "deferred", "batched_cpu"]),
        Line("medium", ["naive", "row_scaled", "compiled"], OFF),
        Line("medium", ["batched", "deferred", "batched_cpu", "labml", "jax"]),
        Line("medium", ["batched_cpu"], dtypes=("bfloat16",)),
        Line("char-ptb", ["batched", "batched_cpu"]),
        Line("stream", ["batched_cpu"]),
        Line("step", ["batched", "deferred", "batched_cpu"]),
        Line("medium-ragged", ["batched_cpu"]),
        Line("two-layers", ["batched_cpu"], ON),
    ),
    DeviceType.CUDA: (
        Line("small", ["batched", "deferred", "batched_cuda", "labml"]),
        Line("medium", ["compiled", "jax"], OFF),
        Line("medium", ["naive", "row_scaled", "batched", "deferred", "batched_cuda", "labml"]),
        Line("char-ptb", ["batched", "deferred", "batched_cuda", "labml"]),
        Line("enwik8", ["batched", "deferred", "batched_cuda", "labml"]),
        Line("stream", ["batched", "deferred", "batched_cuda", "labml"]),
        Line("step", ["batched", "deferred", "batched_cuda", "labml"]),
        Line("char-ptb-ragged", ["batched", "deferred", "batched_cuda"]),
        Line("two-layers", ["deferred", "batched_cuda"], ON),
    ),
}
#: The candidates of a workload without a line, and of sizes that are named.
ELSEWHERE = {
    DeviceType.CPU: ["batched", "deferred", "batched_cpu"],
    DeviceType.CUDA: ["batched", "deferred", "batched_cuda", "labml"],
}


def workloads(device: str) -> list[str]:
    """Workloads with a line."""
    return list(dict.fromkeys(line.workload for line in PLAN[DeviceType(device)]))
