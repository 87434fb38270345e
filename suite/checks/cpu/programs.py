"""What tests of builds take."""

import shutil

import pytest

from impls.batched_cpu import build

#: The mark of tests that compile.
NEEDS_COMPILER = pytest.mark.skipif(shutil.which(build.compiler()[0]) is None, reason="There is no C++ compiler.")
