"""Plugin for a run of pytest with Triton's interpreter on, which takes half the time."""

from suite.checks.triton.interpreted import patch_language_once

patch_language_once()
