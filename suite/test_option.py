"""One more option of the model, by the steps of impls/README.md, harms nothing that does not know it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from impls.registry import IMPLS
from suite.candidates import submission
from suite.checks.module.files import BY_HAND, EXAMPLE
from suite.checks.module.option import OPTION
from suite.shared.files import ROOT

_SUPPORTED = '{"layer_norm", "recurrent_dropout", "forget_bias"}'
_FIELD = "    recurrent_dropout: float = field(default=0.0, metadata={IS_PROBABILITY: True})\n"
#: What the steps change: of each file texts that are in it, and what takes their place.
STEPS: dict[str, dict[str, str]] = {
    "impls/hyperlstm.py": {
        '    "impl": _implementation,\n': '    "impl": _implementation,\n    "forget_bias": calls.probability,\n',
        "        recurrent_dropout: float = 0.0,\n": "        recurrent_dropout: float = 0.0,\n"
        "        forget_bias: float = 0.0,\n",
        "        super().__init__()\n        self.input_size": "        super().__init__()\n"
        "        self.forget_bias = forget_bias\n        self.input_size",
        "laid_out.batch_sizes, mask)": "laid_out.batch_sizes, mask, self.forget_bias)",
        "        mask: Mask | None,\n    )": "        mask: Mask | None,\n        forget_bias: float = 0.0,\n    )",
        "Inputs(x, start, mask, batch_sizes)": "Inputs(x, start, mask, batch_sizes, forget_bias)",
    },
    "impls/definition.py": {
        "    batch_sizes: Sequence[int] = ()": "    batch_sizes: Sequence[int] = ()\n    forget_bias: float = 0.0",
    },
    "impls/naive.py": {"torch.sigmoid(y[1])": "torch.sigmoid(y[1] + inputs.forget_bias)"},
    "impls/row_scaled.py": {"torch.sigmoid(y_f)": "torch.sigmoid(y_f + inputs.forget_bias)"},
    "impls/registry.py": {
        "        preference=1,\n": f"        preference=1,\n        options=frozenset({_SUPPORTED}),\n",
        "preference=2, literal=True": f"preference=2, literal=True, options=frozenset({_SUPPORTED})",
    },
    "suite/cases/case.py": {
        'MODEL_OPTIONS = ("layer_norm", ': 'MODEL_OPTIONS = ("forget_bias", "layer_norm", ',
        _FIELD: _FIELD + _FIELD.replace("recurrent_dropout", "forget_bias"),
    },
    "suite/comparison/runs.py": {
        "Inputs(y, start, part.of(g_dropped))": "Inputs(y, start, part.of(g_dropped), forget_bias=case.forget_bias)",
    },
}


def test_the_page_names_every_file_that_the_steps_change() -> None:
    section = (ROOT / "impls" / "README.md").read_text(encoding="utf-8").partition("## An option of the model\n")[2]
    named = re.findall(r"^\d\. .*?`([\w/]+\.py)`", section, re.MULTILINE | re.DOTALL)
    implementations = {f"impls/{impl.name}.py" for impl in IMPLS if impl.name not in submission.files()}
    steps = {file for file in STEPS if file not in implementations}
    assert {name if "/" in name else f"impls/{name}" for name in named} == steps


def test_an_option_harms_nothing_that_does_not_know_it(tmp_path: Path) -> None:
    """In a copy of the sources: the implementations, README's example and a user's file, with the option and without.

    Those that lack it are right without it and refuse it with a sentence.
    """
    for folder in ("impls", "suite"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, changes in STEPS.items():
        source = (tmp_path / file).read_text(encoding="utf-8")
        for text, new in changes.items():
            assert text in source, f"{file}: the steps of {OPTION} replace {text!r}: write them for the code as it is"
            source = source.replace(text, new)
        (tmp_path / file).write_text(source, encoding="utf-8")
    files = {"by_hand": BY_HAND, "plain": EXAMPLE}
    for name, source in files.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    judge = "-m", "suite.shared.process", str(os.getpid()), "suite.checks.module.option"
    environment = {**os.environ, submission.VARIABLE: "", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *judge, *(str(tmp_path / f"{name}.py") for name in files)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(rf"^{OPTION}: naive, row_scaled, batched, .*by_hand, plain$", ended.stdout, re.MULTILINE)
