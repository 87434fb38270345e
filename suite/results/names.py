"""The names of the tables of a machine's results."""

from enum import StrEnum


class TableName(StrEnum):
    """A table, by the name of its file and of its part of `tables.toml`."""

    BENCH = "bench"
    #: The benchmark at sizes that a person named.
    SIZES = "sizes"
    #: Two runs of the benchmark by the same code.
    TWICE = "twice"
    HARDWARE = "hardware"
    VERIFY = "verify"
    FAULTS = "faults"
    CAPABILITIES = "capabilities"
