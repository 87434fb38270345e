"""Files of tests that take a process with Triton's interpreter on, which `test_interpreter.py` starts."""

from pathlib import Path
from typing import NamedTuple


class File(NamedTuple):
    """What its tests are about, by which it is named; of_triton: whether another version of Triton may change them."""

    subject: str
    of_triton: bool = False

    @property
    def path(self) -> Path:
        return Path(__file__).with_name(f"test_interpreted_{self.subject}.py")


#: pytest collects none of them in another process.
FILES = (File("members"), File("rounding", of_triton=True), File("submission"))
