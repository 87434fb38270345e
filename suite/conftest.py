"""What pytest loads for the suite: plugins of one idea each, with their hooks and fixtures."""

pytest_plugins = (
    "suite.checks.implementations",
    "suite.checks.recording",
    "suite.verify.options",
    "suite.verify.processes",
    "suite.verify.selection",
    "suite.verify.failures",
    "suite.verify.conclusion",
)
#: `test_interpreter.py` runs these in a process with Triton's interpreter on.
collect_ignore_glob = ["*/test_interpreted_*.py"]
