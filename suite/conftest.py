"""What pytest loads for the suite: plugins of one idea each, with their hooks and fixtures."""

from suite.checks.triton import interpreter_only

pytest_plugins = (
    "suite.checks.implementations",
    "suite.checks.recording",
    "suite.verify.options",
    "suite.verify.processes",
    "suite.verify.selection",
    "suite.verify.failures",
    "suite.verify.limits",
    "suite.verify.conclusion",
)
collect_ignore = [str(file.path) for file in interpreter_only.FILES]
