"""Checks that all implementations compute the same.

- A *case* has the sizes of a model and how its input is given (`suite/cases/case.py`); a *draw* has random numbers for
  all arguments of one call of it (`suite/comparison/draws.py`).
- A *run* calls a model of a case on a draw. Its *outcome* has a tensor for each output and gradient, and findings, each
  of which is a failure by itself (`suite/comparison/runs.py`).
- A *use* is a run, and what its results should be, given those of a plain call. These modules define uses:
  `gradients.py`, `layouts.py`, `changes.py`, `calls.py`, `extremes.py`, and for options in pairs `pairs.py`.
- A *comparison* is a case, a dtype, uses of one model, one after another, and the oracle: another implementation in
  float64 and in the dtype (`comparisons.py`). `leftovers.py` watches each run of it for settings left changed. The
  tolerance rule makes a *judgement* of each result (`suite/comparison/tolerance.py`).
- The *catalogue* lists the comparisons of every implementation (`catalogue.py`), and `test_equality.py` makes them.

The other tests check what the tolerance rule cannot show.
"""
