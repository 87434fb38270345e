"""The module that people import: sizes, options, and the loop over layers."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import checks
from .definition import LayerState, shapes
from .layer import Layer
from .registry import find, resolve


class HyperLSTM(nn.Module):
    """An LSTM whose weight rows a smaller LSTM rescales at every step (arXiv 1609.09106, A.2.2).

    The embeddings z read h_hat of the same step.
    Parameters lie under `layers.{l}.`, the same for every implementation; their names and shapes are those of
    `LayerParams`. They start at the paper's values (A.2.3), where the hypernetwork is inert until training moves it.

    Args:
        input_size: features of x, I.
        hidden_size: units of the main LSTM, H.
        hyper_size: units of the hyper LSTM, S.
        n_z: size of the embeddings z, Z.
        n_layers: number of layers, L; each after the first reads the one below.
        layer_norm: normalise every gate and the cell's output, in both LSTMs.
        impl: the implementation's name, or "auto" for the last in `names()` that is available for the parameters'
            device and dtype; it may be assigned later, on the same parameters.
        device, dtype: of the parameters, as in any torch module.

    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        hyper_size: int,
        n_z: int,
        n_layers: int,
        *,
        layer_norm: bool = False,
        impl: str = "auto",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.positive("input_size", input_size)
        self.hidden_size = checks.positive("hidden_size", hidden_size)
        self.hyper_size = checks.positive("hyper_size", hyper_size)
        self.n_z = checks.positive("n_z", n_z)
        self.n_layers = checks.positive("n_layers", n_layers)
        self.layer_norm = checks.flag("layer_norm", layer_norm)
        self.impl = impl
        dtype, place = checks.floating(dtype), checks.device(device)
        first, later = (
            shapes(size, self.hidden_size, self.hyper_size, self.n_z, layer_norm=layer_norm)
            for size in (self.input_size, self.hidden_size)
        )
        checks.addressable(first, later, self.n_layers, dtype or torch.get_default_dtype())
        #: The most numbers that one step and sample makes.
        self._widest = max(self.input_size, 12 * self.hidden_size, 4 * (self.hidden_size + self.hyper_size))
        self.layers = nn.ModuleList(
            Layer(
                self.hidden_size if l else self.input_size,
                self.hidden_size,
                self.hyper_size,
                self.n_z,
                layer_norm=layer_norm,
                device=place,
                dtype=dtype,
            )
            for l in range(self.n_layers)
        )

    @property
    def impl(self) -> str:
        """The implementation's name as it was set; `repr` shows what "auto" stands for."""
        return self._impl

    @impl.setter
    def impl(self, name: str) -> None:
        if name != "auto":
            find(name)
        self._impl = name

    def reset_parameters(self) -> None:
        """Set every parameter to its initial value (paper, A.2.3)."""
        for layer in self.layers:
            cast(Layer, layer).reset_parameters()

    def forward(
        self, x: Tensor, state: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Run all layers over all steps.

        Args:
            x: [T, B, I]; T and B may be 0.
            state: h, c, h_hat, c_hat at the start. Each is [L, B, H] ([L, B, S] for the last two), or [B, H]
                ([B, S]), which then starts every layer. None means zeros.

        Returns:
            out [T, B, H], the last layer's h at every step, and the final (h, c, h_hat, c_hat), stacked over layers.

        Raises:
            TypeError, ValueError: an argument has the wrong type, shape, dtype or device; nothing is cast, except
                under autocast, where everything but float64 is cast to its dtype as `torch.nn.LSTM` does.
                Also where a parameter has been given a shape, dtype or device that does not fit the others.
            RuntimeError: the implementation is unavailable for these parameters.

        """
        self._check_parameters()
        x = checks.sequence(x, self.input_size, self._widest)
        ends = []
        for layer, start in zip(self.layers, self._starts(x, state), strict=True):
            x, end = layer(x, start, self._impl)
            ends.append(end)
        h, c, h_hat, c_hat = (torch.stack(layers) for layers in zip(*ends, strict=True))
        return x, (h, c, h_hat, c_hat)

    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter that does not fit; those that a parametrisation makes, it checks itself."""
        dtype: torch.dtype | None = None
        for l, layer in enumerate(self.layers):
            dtype = cast(Layer, layer).check(f"layers.{l}.", dtype)

    def _starts(self, x: Tensor, state: Sequence[Tensor] | None) -> list[LayerState]:
        """Return the state that each layer starts from, [B, *] each."""
        L, B = self.n_layers, x.shape[1]
        sizes = (self.hidden_size, self.hidden_size, self.hyper_size, self.hyper_size)
        if state is None:
            return [LayerState(*(x.new_zeros(B, size) for size in sizes))] * L
        parts = checks.state(state, L, B, sizes)
        starts = [part.expand(L, B, size).unbind() for part, size in zip(parts, sizes, strict=True)]
        return [LayerState(*parts) for parts in zip(*starts, strict=True)]

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        """Raise RuntimeError for entries that do not fit before the first is loaded, where torch loads the others."""
        given = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
        wrong = checks.state_dict(given, self.state_dict(prefix=prefix), strict)
        if wrong:
            raise RuntimeError(f"state_dict of {type(self).__name__}: {'; '.join(wrong)}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def extra_repr(self) -> str:
        """Return the sizes and the implementation, with what "auto" stands for at present."""
        sizes = f"{self.input_size}, {self.hidden_size}, {self.hyper_size}, {self.n_z}, {self.n_layers}"
        return f"{sizes}, layer_norm={self.layer_norm}, impl={self._impl}{self._resolved()}"

    def _resolved(self) -> str:
        if self._impl != "auto":
            return ""
        weight = next(self.layers.parameters())
        try:
            return f" ({resolve('auto', weight.device, weight.dtype).name})"
        except RuntimeError:
            return " (none available)"
