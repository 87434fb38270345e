"""The module that people import: sizes, parameters, input checks, and the loop over layers."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor, nn

from .layer import LayerParams, LayerState, shapes
from .registry import dtype_name, find, resolve

_STATE_NAMES = ("h", "c", "h_hat", "c_hat")
#: What 64 bits can count.
_MOST_BYTES = 2**63 - 1


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
        place = _device(device)
        #: The most numbers that one step and sample makes.
        self._widest = max(self.input_size, 12 * self.hidden_size, 4 * (self.hidden_size + self.hyper_size))
        self._check_sizes(dtype or torch.get_default_dtype())
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
        x, states = self._check(x, state)
        ends = []
        for layer, start in zip(self.layers, states, strict=True):
            x, end = layer(x, start, self._impl)
            ends.append(end)
        h, c, h_hat, c_hat = (torch.stack(layers) for layers in zip(*ends, strict=True))
        return x, (h, c, h_hat, c_hat)

    def _check_sizes(self, dtype: torch.dtype) -> None:
        """Raise ValueError for sizes whose parameters no machine can address."""
        first, later = (
            shapes(size, self.hidden_size, self.hyper_size, self.n_z, layer_norm=self.layer_norm)
            for size in (self.input_size, self.hidden_size)
        )
        one, others = (sum(map(math.prod, layer.values())) * dtype.itemsize for layer in (first, later))
        if one + (self.n_layers - 1) * others > _MOST_BYTES:
            name = max(first, key=lambda name: math.prod(first[name]))
            raise ValueError(
                "input_size, hidden_size, hyper_size, n_z, n_layers: expected parameters of fewer than 2**63 bytes, "
                f"got {self.n_layers} layers, the first with {name} {list(first[name])} in {dtype_name(dtype)}"
            )

    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter that does not fit; those that a parametrisation makes, it checks itself."""
        dtype: torch.dtype | None = None
        for l, layer in enumerate(self.layers):
            dtype = cast(Layer, layer).check(f"layers.{l}.", dtype)

    def _check(self, x: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, list[LayerState]]:
        """Return x and each layer's start, or raise for a wrong type or shape."""
        x = _dense("x", x)
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x: expected shape [T, B, {self.input_size}], got {list(x.shape)}")
        # While a graph is traced sizes may be symbols, on which this would be a condition.
        if not torch.compiler.is_compiling() and x.shape[0] * x.shape[1] * self._widest * x.itemsize > _MOST_BYTES:
            raise ValueError(f"x: expected products with x of fewer than 2**63 bytes, got shape {list(x.shape)}")
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

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        """Raise RuntimeError for entries that do not fit before the first is loaded, where torch loads the others."""
        expected = self.state_dict(prefix=prefix)
        given = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
        wrong = [f"missing {name}" for name in expected if strict and name not in given]
        wrong += [f"unexpected {name}" for name in given if strict and name not in expected]
        for name, own in expected.items():
            if name in given and isinstance(own, Tensor):
                wrong += _unloadable(name, given[name], own)
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
        device: torch.device | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        #: By name, those there are.
        self.shapes = shapes(input_size, hidden_size, hyper_size, n_z, layer_norm=layer_norm)
        self._shapes = list(self.shapes.values())
        for name in LayerParams._fields:
            shape = self.shapes.get(name)
            value = None if shape is None else nn.Parameter(_empty(name, shape, device, dtype))
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

    def check(self, prefix: str, dtype: torch.dtype | None) -> torch.dtype | None:
        """Raise ValueError for a parameter with a wrong shape, another device than the first's, or another dtype.

        dtype: expected; None for that of the first. Returns what the next layer should have: autocast makes one dtype
        of several.
        """
        values = [q for q in self._parameters.values() if q is not None]
        if not values:
            return dtype
        dtype, device = dtype or values[0].dtype, values[0].device
        if [q.shape for q in values] != self._shapes or any(q.dtype != dtype or q.device != device for q in values):
            self._require(prefix, dtype, device)
        return dtype

    def _require(self, prefix: str, dtype: torch.dtype, device: torch.device) -> None:
        """Raise ValueError for the first parameter that is not as it should be."""
        mixed = _autocasts(device.type)
        for name, q in self._parameters.items():
            shape = self.shapes.get(name)
            if q is None and shape is None:
                continue
            if q is None:
                raise ValueError(f"{prefix}{name}: expected a parameter of shape {list(shape or ())}, got None")
            if q.shape != shape or q.device != device or (q.dtype != dtype and not mixed):
                wanted = "None" if shape is None else f"{list(shape)} in {dtype_name(dtype)} on {device}"
                raise ValueError(
                    f"{prefix}{name}: expected {wanted}, got {list(q.shape)} in {dtype_name(q.dtype)} on {q.device}"
                )

    def forward(self, x: Tensor, start: LayerState, impl: str) -> tuple[Tensor, LayerState]:
        """Run this layer over all steps: x [T, B, I] -> out [T, B, H] and the last state."""
        p = self._params()
        device_type = p.weight_h.device.type
        if _autocasts(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            p = LayerParams._make(q if q is None else _autocast(q, dtype) for q in p)
            x, start = _autocast(x, dtype), LayerState(*(_autocast(part, dtype) for part in start))
            with torch.autocast(device_type, enabled=False):
                return _run(p, x, start, impl)
        return _run(p, x, start, impl)

    def _params(self) -> LayerParams:
        own = self._parameters  # without the module's search, save for what a parametrisation makes
        return LayerParams._make(own[name] if name in own else getattr(self, name) for name in LayerParams._fields)

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


def _device(device: Any) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise type(error)(f"device: expected a torch.device or its name, got {device!r}: {error}") from error


def _empty(name: str, shape: tuple[int, ...], device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    try:
        return torch.empty(shape, device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        where = f" on {device}" if device else ""
        raise type(error)(f"{name}: cannot allocate {list(shape)}{where}: {str(error).splitlines()[0]}") from error


def _unloadable(name: str, value: Any, own: Tensor) -> list[str]:
    """Return what keeps an entry of a state_dict from being loaded, nothing if nothing does."""
    if not isinstance(value, Tensor):
        return [f"{name}: expected a tensor, got {type(value).__name__}"]
    if value.shape != own.shape:
        return [f"{name}: expected shape {list(own.shape)}, got {list(value.shape)}"]
    if not value.is_floating_point() or value.layout != torch.strided:
        return [f"{name}: expected a dense floating-point tensor, got {dtype_name(value.dtype)} in {value.layout}"]
    if value.is_meta and not own.is_meta:
        return [f"{name}: expected numbers, got a tensor on meta"]
    return []


def _autocasts(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


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
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        kind = "a nested tensor" if value.is_nested else f"{dtype_name(value.dtype)} in layout {value.layout}"
        raise TypeError(f"{name}: expected a dense tensor, got {kind}")
    return value
