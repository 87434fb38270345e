"""What pytest loads for the suite: plugins of one idea each, with their hooks and fixtures."""

pytest_plugins = (
    "suite.checks.implementations",
    "suite.checks.recording",
    "suite.verify.options",
    "suite.verify.processes",
    "suite.verify.limits",
    "suite.verify.conclusion",
)
#: They take a process with Triton's interpreter on, which `test_interpreter.py` starts.
collect_ignore_glob = ["checks/triton/test_interpreted_*.py"]
