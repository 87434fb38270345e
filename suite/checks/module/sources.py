"""Sources of files of `--impl` that are right."""

from pathlib import Path

from suite.shared.files import ROOT

#: A function of one layer.
EXAMPLE = Path(__file__).with_name("mine.py").read_text(encoding="utf-8")
#: With a hand-written gradient, from impls/README.md.
_BLOCKS = (ROOT / "impls" / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
BY_HAND = next(block.split("```")[0] for block in _BLOCKS if "as_operator(" in block)
