"""Builds the library for every dtype before the first call: `python -m hyperlstm.batched_cpu`."""

import sys

from ..definition import dtype_name
from .loading import library
from .sets import DTYPES


def main() -> int:
    """Print the path of the library for each dtype, built where it is missing; 1 if one cannot be."""
    status = 0
    for dtype in DTYPES:
        try:
            print(f"{dtype_name(dtype)}: {library(dtype).path}", flush=True)
        except RuntimeError as error:
            print(f"{dtype_name(dtype)}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
