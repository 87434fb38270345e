"""Folder of the project."""

from pathlib import Path

#: The folder that holds `impls`, `suite` and `results`.
ROOT = Path(__file__).resolve().parents[2]
