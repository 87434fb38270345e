"""Uses the installed package as README.md does, with nothing installed but what it requires: `FOLDER` has it."""

import pkgutil
import re
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import hyperlstm

#: What only the suite requires, and torch can do without.
ABSENT = ("numpy", "pandas", "pytest")


def modules() -> list[str]:
    """Import every module of the package, and return their names; without Triton, its kernels are left out."""
    names = [module.name for module in pkgutil.walk_packages(hyperlstm.__path__, "hyperlstm.")]
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != "triton" or not name.startswith("hyperlstm.batched_cuda."):
                raise
    return names


def main(folder: str) -> None:
    assert not any(map(find_spec, ABSENT)), "expected an environment with the package alone"
    file = Path(hyperlstm.__file__).resolve()
    assert file.is_relative_to(Path(folder).resolve()), f"expected hyperlstm of {folder}, got {file}"
    assert hyperlstm.__version__ == version("hyperlstm")
    readme = Path(__file__).resolve().parents[2] / "README.md"
    (example, *_) = re.findall("^```python\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(example, {})
    print(f"hyperlstm {hyperlstm.__version__} of {file.parent}: {len(modules())} modules, and the example of README.md")


if __name__ == "__main__":
    main(sys.argv[1])
