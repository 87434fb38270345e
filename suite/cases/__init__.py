"""What is run: a case, the cases of verification, and the workloads of the benchmark."""
