"""Print the hashes of what rows of results depend on, as the code that is imported has it: see `handed_in.py`.

It reads rows by table, and prints lists of hashes by table, both as JSON; null where the code lacks what a row names.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from suite.results.provenance import sources


def hash_of(table: Any, row: Mapping[str, Any]) -> str | None:
    """Hash of what a row depends on; None if the code lacks it. table: its name, for which older code has no type."""
    try:
        return sources(table, row)
    except (KeyError, OSError, ValueError):
        return None


if __name__ == "__main__":
    tables = json.load(sys.stdin)
    print(json.dumps({table: [hash_of(table, row) for row in rows] for table, rows in tables.items()}))
