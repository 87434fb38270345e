"""Sizes and options at which an implementation may take another code path."""

from collections.abc import Callable, Iterable

from suite.cases.case import Case

#: By name, of a comparison's case.
CONDITIONS: dict[str, Callable[[Case], bool]] = {
    "B above 64": lambda case: case.B > 64,
    "B above 256": lambda case: case.B > 256,
    "B not a multiple of 4, above 32": lambda case: case.B > 32 and case.B % 4 > 0,
    "H a multiple of 32": lambda case: case.H % 32 == 0,
    "H of 64 or more": lambda case: case.H >= 64,
    "H odd, above 100": lambda case: case.H > 100 and case.H % 2 == 1,
    "H of 500 or more": lambda case: case.H >= 500,
    "I of 96 or more": lambda case: case.I >= 96,
    "I above H": lambda case: case.I > case.H > 16,
    "S of 32 or more": lambda case: case.S >= 32,
    "S above H": lambda case: case.S > case.H,
    "Z of 9 or more": lambda case: case.Z >= 9,
    "T above 10": lambda case: case.T > 10,
    "T B above 256": lambda case: case.T * case.B > 256,
    "layer norm and H above 128": lambda case: case.layer_norm and case.H > 128,
    "packed and B of 5 or more": lambda case: len(case.lengths) >= 5,
    "packed and H of 64 or more": lambda case: bool(case.lengths) and case.H >= 64,
    "masked and H above 32": lambda case: case.recurrent_dropout > 0 and case.H > 32,
    "masked and B above 64": lambda case: case.recurrent_dropout > 0 and case.B > 64,
    "second layer and H of 64 or more": lambda case: case.L > 1 and case.H >= 64,
}


def unmet(cases: Iterable[Case]) -> list[str]:
    """Names of the conditions that none of the cases meets."""
    cases = list(cases)
    names = []
    for name, holds in CONDITIONS.items():
        if not any(holds(case) for case in cases):
            names.append(name)
    return names
