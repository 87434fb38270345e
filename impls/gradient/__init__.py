"""What a hand-written gradient plugs into: the interface, the operator, and the backward pass over chunks of steps."""
