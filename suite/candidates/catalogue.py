"""All candidates."""

from importlib import import_module

from impls import names, registry
from suite.candidates import submission
from suite.candidates.candidate import Candidate
from suite.candidates.lstm import LSTM, PADDED_LSTM
from suite.candidates.names import ALTERNATIVES
from suite.candidates.ours import candidate_of


def candidates() -> list[Candidate]:
    """All candidates in the order of the tables."""
    others = [import_module(f"suite.candidates.{name}").CANDIDATE for name in ALTERNATIVES]
    return [*map(candidate_of, names()), LSTM, PADDED_LSTM, *others]


def alternatives() -> list[str]:
    """Names of what a user could take instead: our forms under autograd, and what others wrote."""
    own = [name for name in names() if name not in submission.files()]
    return [*(name for name in own if not registry.find(name).hand_written), *ALTERNATIVES]


def find(name: str) -> Candidate:
    """Candidate of that name; LookupError if there is none."""
    by_name = {candidate.name: candidate for candidate in candidates()}
    if name not in by_name:
        raise LookupError(f"implementation: expected one of {', '.join(by_name)}, got {name}")
    return by_name[name]
