"""Checks that all implementations compute the same.

The words, from the inside out, and where they are:

- A *case* has the sizes of a model and how its input is given (`suite/cases/case.py`); a *draw* has random numbers for
  all arguments of one call of it (`suite/comparison/draws.py`).
- A *run* calls a model of a case on a draw. It gives an *outcome*: *results*, a tensor for each output and
  gradient, and *findings*, each of which is a failure by itself (`suite/comparison/runs.py`, `tensors.py`).
- A *use* is a run, and what its results should be, given those of a plain call (`use.py`). These modules define
  uses: `gradients.py`, `layouts.py`, `changes.py`, `calls.py`, `extremes.py`, and for options in pairs `pairs.py`.
- A *group* is several uses of one model, one after another. A *comparison* is a case, a dtype, a group and an oracle,
  and whether a default run makes it (`tasks.py`). `leftovers.py` watches each run of it for settings left changed.
- The *oracle* is another implementation in float64 and in the dtype; the tolerance rule makes a *judgement* of each
  result (`suite/comparison/tolerance.py`).
- The *catalogue* lists the comparisons of every implementation (`catalogue.py`), and `test_equality.py`, `test_wide.py`
  and `test_uses.py` make them.

A comparison of a person's own size is in `at_size.py`. The other tests check what the tolerance rule cannot show.
"""
