"""What every room stands on: cases, the oracle and its rule, who is measured, child processes, rows of results."""
