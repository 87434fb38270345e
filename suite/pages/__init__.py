"""What is made of the CSV files, and of nothing else: Markdown, plots, the report."""
