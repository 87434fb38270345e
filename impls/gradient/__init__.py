"""What a hand-written gradient plugs into: the interface, the operator, and the backward pass over chunks of steps."""

from .operator import HandWritten, Saved, as_operator

__all__ = ["HandWritten", "Saved", "as_operator"]
