"""Marks of tests of a use of the module."""

import pytest

from suite.checks.module import capabilities
from suite.checks.module.capabilities import CAPABILITIES


def marks_of(use: str) -> list[pytest.MarkDecorator]:
    """Marks of tests of a use, which is a title of `CAPABILITIES` or another name."""
    takes_onnx = use in CAPABILITIES and CAPABILITIES[use].check in (capabilities.onnx, capabilities.onnx_by_trace)
    return [pytest.mark.onnx] if takes_onnx else []
