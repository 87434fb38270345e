"""Markdown, plots and the report, made of the CSV files, the texts and the registry; nothing is measured here."""
