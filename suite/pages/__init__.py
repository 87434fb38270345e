"""Markdown, plots and the report, made of the CSV files, the texts and the registry; nothing is measured here.

The words of a benchmark:

- A *visit* is one turn of a candidate beside the baseline in a process of its own (`suite/measure/README.md`). A *row*
  is what all visits of a candidate, a case and a pass gave.
- A *setting* is a workload at a T and a B, in a dtype. A *place* is a setting with layer norm or without: the rows of
  one place are compared directly (`benchmark.py`).
- The *verdict* of a candidate at a place is about one pass, which is *judged*.

And of pages: rows become the *lines* of a *sheet*, whose *columns* say how a cell is written (`page.py`). The *parts*
of a page are sheets, plots and `Markdown`, of which both the Markdown files and the report are made (`webpage.py`).
"""
