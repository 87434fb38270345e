"""What makes a call slow and changes no result, as far as it can be counted."""

from dataclasses import replace

from impls.registry import IMPLS
from suite.candidates import submission
from suite.cases.case import Case, Start

#: Implementations whose arithmetic is torch's.
OF_TORCH = [impl.name for impl in IMPLS if not impl.probe and impl.name not in submission.files()]
_PLAIN = Case(T=3, B=2, I=7, H=11, S=5, Z=3, L=2, state=Start.STACKED)
#: Sizes that no other product has, and the options on which products could depend.
CASES = (
    _PLAIN,
    replace(_PLAIN, layer_norm=True),
    replace(_PLAIN, dropout=0.5, recurrent_dropout=0.5),
    replace(_PLAIN, lengths=(3, 2)),
    replace(_PLAIN, lengths=(1, 3), layer_norm=True, dropout=0.5, recurrent_dropout=0.5),
)
