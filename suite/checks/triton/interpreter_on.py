"""Plugin for a run of pytest with Triton's interpreter on, which takes half the time."""

from suite.checks.triton.interpreted import prepare

prepare()
