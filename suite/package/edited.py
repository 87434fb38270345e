"""Checks that edits of an editable installation take effect: `FOLDER` has its source, which is edited."""

import subprocess
import sys
from pathlib import Path


def main(folder: str) -> None:
    with Path(folder, "impls", "convert.py").open("a", encoding="utf-8") as file:
        file.write("EDITED = True\n")
    subprocess.run([sys.executable, "-c", "import hyperlstm; hyperlstm.convert.EDITED"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
