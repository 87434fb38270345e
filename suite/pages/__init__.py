"""Markdown, plots and the report, made of the CSV files, the texts and the registry; nothing is measured here.

The words of a benchmark:

- A *visit* is one turn of a candidate beside the baseline in a process of its own (`suite/measure/README.md`). A *row*
  is what all visits of a candidate, a case and a pass gave.
- A *setting* is a workload at a T and a B, in a dtype. A *place* is a setting with layer norm or without: the rows of
  one place are compared directly.
- The *verdict* of a candidate at a place is about one pass, which is *judged*.

From bench.csv to a sentence: `results/run.py` reads the rows, `ranking.py` compares them and chooses the quoted ones,
`headline.py` writes the sentences, and `bench.py` and `readme.py` put them into templates. A table is a DataFrame of
strings (`text.py`).
"""
