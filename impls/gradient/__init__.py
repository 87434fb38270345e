"""What a hand-written gradient plugs into: the interface, the operator, chunks of steps, and the gradient of a cell."""

from .operator import HandWritten, Saved, as_operator

__all__ = ["HandWritten", "Saved", "as_operator"]
