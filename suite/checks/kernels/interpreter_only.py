"""Files of tests that take a process with Triton's interpreter on, which `test_interpreter.py` starts."""

from pathlib import Path

MEMBERS = "test_interpreted_members.py"
ROUNDING = "test_interpreted_rounding.py"
SUBMISSION = "test_interpreted_submission.py"
#: Their paths; pytest collects none of them in another process.
PATHS = tuple(Path(__file__).with_name(name) for name in (MEMBERS, ROUNDING, SUBMISSION))
