"""The comparison: random draws, runs of a model, the tolerance rule, memory, and which tensor is which."""
