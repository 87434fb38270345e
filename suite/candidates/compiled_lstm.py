"""`batched` with its step through torch.compile; the loop over steps stays in Python.

Compiling the loop as well takes minutes at 50 steps, since torch.compile unrolls it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from impls import HyperLSTM, batched
from impls.calls import layout, starts
from impls.definition import Inputs, LayerParams

# With fullgraph, code that torch cannot compile raises an error and does not run uncompiled.
_run = batched.unrolled(torch.compile(batched.step, fullgraph=True))
#: Graphs of a process: one for each combination of sizes, dtype, layer norm and gradient mode.
GRAPHS = 256


class CompiledHyperLSTM(HyperLSTM):
    """A HyperLSTM whose steps torch.compile has compiled, for batches without dropout."""

    def forward(self, x: Any, state: Sequence[Tensor] | None = None) -> Any:
        """Run all layers over all steps, see `HyperLSTM.forward`; TypeError unless x is a tensor."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x: expected a tensor, got {type(x).__name__}")
        sizes, ends = (self.hidden_size, self.hidden_size, self.hyper_size, self.hyper_size), []
        begins = starts(layout(x, self.input_size, batch_first=False), state, self.n_layers, sizes)
        with torch._dynamo.config.patch(recompile_limit=GRAPHS, accumulated_recompile_limit=GRAPHS):
            for layer, start in zip(self.layers, begins, strict=True):
                x, end = _run(LayerParams(**dict(layer.named_parameters())), Inputs(x, start))
                ends.append(end)
        return x, tuple(map(torch.stack, zip(*ends, strict=True)))
