"""One task of a study: what it is told, and the process of its own that does it and leaves rows."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from suite.shared.arithmetic import dtype_of
from suite.shared.cases import Case
from suite.shared.files import ROOT


@dataclass(frozen=True)
class Task:
    """What the process of one task is told.

    part: the task's name within its study. subjects: what it measures.
    limit: memory study, the bytes that a training step is to fit in. seconds: text study, how long to train.
    memory_limit: bytes that the process may take; 0 for no limit.
    """

    study: str
    part: str
    subjects: tuple[str, ...]
    case: Case
    dtype: str
    device: str
    limit: int = 0
    seconds: float = 0.0
    memory_limit: int = 0

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        return dtype_of(self.dtype)

    @property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.device)

    @property
    def label(self) -> str:
        """How the task is called in lines."""
        return f"{self.study} {self.case.name} {'norm' if self.case.layer_norm else 'plain'} {self.dtype} {self.part}"

    def row(self, kind: str, implementation: str, case: Case | None = None, **figures: Any) -> dict[str, Any]:
        """Return a row of the study; case: the sizes that it is about, if not the task's own."""
        case = case or self.case
        return {
            "part": self.part,
            "kind": kind,
            "workload": case.name,
            **{n: getattr(case, n) for n in "TBIHSZL"},
            "layer_norm": "on" if self.case.layer_norm else "off",
            "implementation": implementation,
            "dtype": self.dtype,
            "status": "ok",
        } | figures

    def write(self, path: Path) -> None:
        """Write the task for the process that will do it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Task":
        """Read a task back."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**fields | {"case": Case(**fields["case"]), "subjects": tuple(fields["subjects"])})


def run(task: Task, time_limit: float, log: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Do a task in a process of its own and return its rows; if it did not reach its end, the last one says why.

    log: where the process's output goes. environment: variables to set for it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path, left = Path(temporary) / "task.json", Path(temporary) / "rows.jsonl"
        task.write(path)
        command = [sys.executable, "-m", "suite.studies.step", str(path), str(left)]
        ended = "ok"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                code = subprocess.run(
                    command,
                    stdout=output,
                    stderr=output,
                    timeout=time_limit,
                    check=False,
                    cwd=ROOT,
                    env=os.environ | environment,
                ).returncode
            if code:
                ended = f"crashed: signal {-code}" if code < 0 else f"failed: exit {code}"
        except subprocess.TimeoutExpired:
            ended = f"time-out: {time_limit:.0f} s"
        lines = left.read_text(encoding="utf-8").splitlines() if left.exists() else []
    rows = [json.loads(line) for line in lines]
    if ended != "ok":
        rows.append(task.row("end", task.subjects[0], status=ended))
    return rows
