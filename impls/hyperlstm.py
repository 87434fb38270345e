"""The module that people import: sizes, parameters, input checks, and the loop over layers."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor, nn

from .layer import LayerParams, LayerState
from .registry import dtype_name, find, resolve

_STATE_NAMES = ("h", "c", "h_hat", "c_hat")


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
        self.input_size = _positive("input_size", input_size)
        self.hidden_size = _positive("hidden_size", hidden_size)
        self.hyper_size = _positive("hyper_size", hyper_size)
        self.n_z = _positive("n_z", n_z)
        self.n_layers = _positive("n_layers", n_layers)
        if not isinstance(layer_norm, bool):
            raise TypeError(f"layer_norm: expected True or False, got {layer_norm!r}")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype: expected a floating-point torch.dtype, got {dtype!r}")
        self.layer_norm = layer_norm
        self.impl = impl
        self.layers = nn.ModuleList(
            Layer(
                self.hidden_size if l else self.input_size,
                self.hidden_size,
                self.hyper_size,
                self.n_z,
                layer_norm=layer_norm,
                device=device,
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
            RuntimeError: the implementation is unavailable for these parameters.

        """
        x, states = self._check(x, state)
        ends = []
        for layer, start in zip(self.layers, states, strict=True):
            x, end = layer(x, start, self._impl)
            ends.append(end)
        h, c, h_hat, c_hat = (torch.stack(layers) for layers in zip(*ends, strict=True))
        return x, (h, c, h_hat, c_hat)

    def _check(self, x: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, list[LayerState]]:
        """Return x and each layer's start, or raise for a wrong type or shape."""
        x = _dense("x", x)
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x: expected shape [T, B, {self.input_size}], got {list(x.shape)}")
        L, B = self.n_layers, x.shape[1]
        sizes = (self.hidden_size, self.hidden_size, self.hyper_size, self.hyper_size)
        if state is None:
            start = LayerState(*(x.new_zeros(B, size) for size in sizes))
            return x, [start] * L
        if not isinstance(state, (tuple, list)):
            raise TypeError(f"state: expected None or a tuple (h, c, h_hat, c_hat), got {type(state).__name__}")
        if len(state) != 4:
            raise ValueError(f"state: expected 4 tensors (h, c, h_hat, c_hat), got {len(state)}")
        starts = []
        for name, part, size in zip(_STATE_NAMES, state, sizes, strict=True):
            part = _dense(f"state ({name})", part)
            if part.shape not in ((L, B, size), (B, size)):
                raise ValueError(
                    f"state ({name}): expected shape [{L}, {B}, {size}] or [{B}, {size}], got {list(part.shape)}"
                )
            starts.append(part.expand(L, B, size).unbind())
        return x, [LayerState(*parts) for parts in zip(*starts, strict=True)]

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


class Layer(nn.Module):
    """One layer: owns its parameters and reads them afresh at every call, so that hooks and parametrisations work."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        hyper_size: int,
        n_z: int,
        *,
        layer_norm: bool,
        device: torch.device | str | int | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        I, H, S, Z = input_size, hidden_size, hyper_size, n_z
        shapes = {
            "weight_x": (4, H, I),
            "weight_h": (4, H, H),
            "bias": (4, H),
            "hyper_weight_x": (4, S, I),
            "hyper_weight_h": (4, S, H),
            "hyper_weight_s": (4, S, S),
            "hyper_bias": (4, S),
            "z_weight": (3, 4, Z, S),
            "z_bias": (2, 4, Z),
            "d_weight": (3, 4, H, Z),
        }
        norm_shapes = {
            "norm_weight": (4, H),
            "norm_bias": (4, H),
            "norm_c_weight": (H,),
            "norm_c_bias": (H,),
            "hyper_norm_weight": (4, S),
            "hyper_norm_bias": (4, S),
            "hyper_norm_c_weight": (S,),
            "hyper_norm_c_bias": (S,),
        }
        for name, shape in (shapes | norm_shapes).items():
            absent = name in norm_shapes and not layer_norm
            value = None if absent else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every parameter to its initial value (paper, A.2.3)."""
        p = self._params()
        with torch.no_grad():
            for weight in (p.weight_x, p.weight_h, p.hyper_weight_x, p.hyper_weight_h, p.hyper_weight_s):
                for gate in weight:
                    # No QR in half precision: draw in float32 and round.
                    wide = gate if gate.dtype == torch.float64 else gate.float()
                    gate.copy_(nn.init.orthogonal_(torch.empty_like(wide)))
            for zero in (p.bias, p.hyper_bias, p.z_weight[:2], p.d_weight[2]):
                zero.zero_()
            p.z_bias.fill_(1.0)
            p.z_weight[2].normal_(std=0.01)
            p.d_weight[:2].fill_(0.1 / p.d_weight.shape[-1])
            for name, value in self.named_parameters(recurse=False):
                if "norm" in name:
                    value.fill_(1.0 if name.endswith("weight") else 0.0)

    def forward(self, x: Tensor, start: LayerState, impl: str) -> tuple[Tensor, LayerState]:
        """Run this layer over all steps: x [T, B, I] -> out [T, B, H] and the last state."""
        p = self._params()
        device_type = p.weight_h.device.type
        if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            p = LayerParams._make(q if q is None else _autocast(q, dtype) for q in p)
            x, start = _autocast(x, dtype), LayerState(*(_autocast(part, dtype) for part in start))
            with torch.autocast(device_type, enabled=False):
                return _run(p, x, start, impl)
        return _run(p, x, start, impl)

    def _params(self) -> LayerParams:
        return LayerParams(**{name: getattr(self, name) for name in LayerParams._fields})

    def extra_repr(self) -> str:
        """Return the sizes that this layer maps between."""
        _, H, I = self._params().weight_x.shape
        return f"{I} -> {H}"


def _run(p: LayerParams, x: Tensor, start: LayerState, impl: str) -> tuple[Tensor, LayerState]:
    """Choose the implementation by what the parameters are here and now, and call it."""
    weight = p.weight_h
    for name, given in zip(("x", *_STATE_NAMES), (x, *start), strict=True):
        if given.dtype != weight.dtype or given.device != weight.device:
            argument = name if name == "x" else f"state ({name})"
            raise ValueError(
                f"{argument}: expected {dtype_name(weight.dtype)} on {weight.device} as the parameters are, "
                f"got {dtype_name(given.dtype)} on {given.device}"
            )
    run = resolve(impl, weight.device, weight.dtype).run
    if x.shape[0] == 0:
        # No numbers, but still a function of x and the parameters, so that backward() works and leaves zeros.
        nothing = sum(q.sum() for q in (x, *p) if q is not None)
        return x.new_empty(0, x.shape[1], weight.shape[1]) * nothing, start
    return run(p, x, start)


def _autocast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast as autocast does: any floating dtype but float64."""
    return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    return int(value)


def _dense(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    return value
