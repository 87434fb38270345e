"""The process of one task: `python -m suite.studies.step TASK.json ROWS.jsonl`, a line for each row once measured."""

import json
import sys
from pathlib import Path

from suite.shared import arithmetic, machine
from suite.shared.work import is_out_of_memory
from suite.studies.tasks import Task
from suite.study import STUDIES


def main(task_path: Path, rows_path: Path) -> None:
    """Do the task."""
    task = Task.read(task_path)
    if task.memory_limit:
        machine.limit_memory(task.memory_limit, task.torch_device)
    arithmetic.use(task.dtype)
    with rows_path.open("a", encoding="utf-8") as file:
        try:
            for row in STUDIES[task.study].rows(task):
                file.write(json.dumps(row) + "\n")
                file.flush()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            file.write(json.dumps(task.row("end", task.subjects[0], status="out of memory")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
