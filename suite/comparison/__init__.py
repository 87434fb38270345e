"""The comparison: the oracle, the rule, and which tensor is which."""
