"""The `HyperLSTM` module and its layers, which own the parameters and call an implementation."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import calls
from .calls import Sequences, by_segments, draw, layout, stacked, starts
from .definition import ROLES, Inputs, LayerParams, LayerState, Mask, Role, masked, shapes
from .registry import AUTO, OPTIONS, compiled_at_first_call, find, resolve
from .tracing import constant


def _implementation(argument: str, name: Any) -> str:
    """The name of an implementation; ValueError unless there is one, or it is "auto"."""
    return name if name == AUTO else find(name).name


#: Checks of the module's attributes: (name, value) -> value; TypeError or ValueError names the attribute.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("input_size", "hidden_size", "hyper_size", "n_z", "n_layers"), calls.positive),
    **dict.fromkeys(("layer_norm", "batch_first"), calls.flag),
    **dict.fromkeys(("dropout", "recurrent_dropout"), calls.probability),
    "impl": _implementation,
}
#: Names of the attributes that say what a model is.
ATTRIBUTES = tuple(_CHECKS)
#: Those that cannot change, because the parameters have their shapes.
_FIXED = ("input_size", "hidden_size", "hyper_size", "n_z", "n_layers", "layer_norm")


class HyperLSTM(nn.Module):
    """An LSTM whose weight rows a smaller LSTM rescales at every step (arXiv 1609.09106, A.2.2).

    The embeddings z read h_hat of the same step.
    Parameters are named `layers.{l}.*`, the same for every implementation; their names and shapes are those of
    `LayerParams`. They start at the paper's values (A.2.3), where the hypernetwork is inert until training moves it.

    Args:
        input_size: features of x, I.
        hidden_size: units of the main LSTM, H.
        hyper_size: units of the hyper LSTM, S.
        n_z: size of the embeddings z, Z.
        n_layers: number of layers, L; each after the first reads the one below.
        layer_norm: normalise every gate and the cell's output, in both LSTMs.
        dropout: probability of zeroing, in training mode, an element of the output of each layer but the last; the
            other elements are scaled by 1 / (1 - dropout), as in `torch.nn.LSTM`.
        recurrent_dropout: the same for the main LSTM's candidate g, at every step of every layer (arXiv 1603.05118).
        batch_first: x and out have the batch as their first axis; states do not.
        impl: name of the implementation, or "auto" for the fastest one that is available for the parameters' device and
            dtype and is not experimental; `repr` shows which one that is.
        device, dtype: of the parameters, as in any torch module.

    batch_first, dropout, recurrent_dropout and impl can be changed later.

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
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        impl: str = AUTO,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.hyper_size = input_size, hidden_size, hyper_size
        self.n_z, self.n_layers, self.layer_norm, self.batch_first = n_z, n_layers, layer_norm, batch_first
        self.dropout, self.recurrent_dropout, self.impl = dropout, recurrent_dropout, impl
        if self.dropout and self.n_layers == 1:
            warnings.warn(
                f"dropout={dropout} has no effect with n_layers=1: it is on the output of each layer but the last",
                stacklevel=2,
            )
        dtype = calls.floating(dtype)
        H, S, Z = self.hidden_size, self.hyper_size, self.n_z
        inputs = [self.input_size] + [H] * (self.n_layers - 1)
        self.layers = nn.ModuleList(
            Layer(f"layers.{l}.", shapes(I, H, S, Z, layer_norm=layer_norm), device, dtype)
            for l, I in enumerate(inputs)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Check the value; AttributeError if it does not fit the parameters."""
        if name in _CHECKS:
            value = _CHECKS[name](name, value)
            if name in _FIXED and value != (expected := self.__dict__.get(name, value)):
                raise AttributeError(f"{name}: expected {expected}, which the parameters have, got {value}")
        super().__setattr__(name, value)

    def reset_parameters(self) -> None:
        """Set every parameter to its initial value (paper, A.2.3)."""
        for layer in self.layers:
            cast(Layer, layer).reset_parameters()

    def flatten_parameters(self) -> None:
        """Do nothing; code written for `torch.nn.LSTM` may call this."""

    def forward(
        self, x: Sequences, state: Sequence[Tensor] | None = None
    ) -> tuple[Sequences, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Run all layers over all steps.

        Args:
            x: [T, B, I]; [B, T, I] with batch_first; or [T, I], one sequence without a batch. T and B may be 0.
                Sequences of different lengths are a `torch.nn.utils.rnn.PackedSequence`, sorted or not.
            state: h, c, h_hat, c_hat at the start. Each is [L, B, H] ([L, B, S] for the last two), or [B, H]
                ([B, S]), which then starts every layer; without B where x has no batch. None means zeros.

        Returns:
            out, the last layer's h at every step, laid out as x, and the final (h, c, h_hat, c_hat), stacked over
            layers. Of packed sequences, out is packed in the same way, and each row's final state is that after its
            own last step; states are in the order of the sequences before they were sorted.

        Raises:
            TypeError, ValueError: an argument has the wrong type, shape, dtype or device; nothing is cast, except
                under autocast, where everything but float64 is cast to its dtype as `torch.nn.LSTM` does.
                Also where a parameter has been given a shape, dtype or device that does not fit the others.
            RuntimeError: the implementation is unavailable for these parameters.

        """
        dtype: torch.dtype | None = None
        layers = cast(Iterable[Layer], self.layers)
        for layer in layers:  # before any of them runs
            dtype = layer.check(dtype)
        laid_out = layout(x, self.input_size, self.batch_first)
        sizes = (self.hidden_size, self.hidden_size, self.hyper_size, self.hyper_size)
        between, inside = (self.dropout, self.recurrent_dropout) if self.training else (0.0, 0.0)
        y, options = laid_out.x, self._options()
        ends: list[LayerState] = []
        for layer, start in zip(layers, starts(laid_out, state, self.n_layers, sizes), strict=True):
            if between and ends:
                y = masked(y, draw(between, y.shape, y.device))
            mask = draw(inside, (*y.shape[:-1], self.hidden_size), y.device) if inside else None
            y, end = layer(y, start, self.impl, options, laid_out.batch_sizes, mask)
            ends.append(end)
        h, c, h_hat, c_hat = map(laid_out.last, stacked(ends))
        return laid_out.out(y), (h, c, h_hat, c_hat)

    def extra_repr(self) -> str:
        """The sizes, the options that are on, and the implementation, with what "auto" chooses now."""
        sizes = f"{self.input_size}, {self.hidden_size}, {self.hyper_size}, {self.n_z}, {self.n_layers}"
        options = {name: getattr(self, name) for name in ("batch_first", "dropout", "recurrent_dropout")}
        changed = "".join(f", {name}={value}" for name, value in options.items() if value)
        return f"{sizes}, layer_norm={self.layer_norm}{changed}, impl={self.impl}{self._resolved()}"

    def _options(self) -> list[str]:
        """The options that the implementation must support; in evaluation mode there is no mask."""
        return [name for name in OPTIONS if getattr(self, name) and (self.training or name != "recurrent_dropout")]

    def _resolved(self) -> str:
        if self.impl != AUTO:
            return " (experimental)" if find(self.impl).experimental else ""
        weight = next(self.layers.parameters())
        device, dtype = weight.device, weight.dtype
        if name := compiled_at_first_call(device, dtype, self._options()):
            return f" ({name}, compiled at the first call)"
        try:
            sizes = cast(Layer, self.layers[0]).sizes
            return f" ({resolve(AUTO, device, dtype, self._options(), sizes).name})"
        except RuntimeError:
            return " (none available)"


class Layer(nn.Module):
    """One layer, which owns its parameters and reads them at every call, so that hooks and parametrisations work.

    prefix: prefix of its parameters' names in the model, for errors. shapes: shape of each of its parameters by name.
    """

    def __init__(
        self, prefix: str, shapes: calls.Shapes, device: torch.device | str | int | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.prefix, self.shapes = prefix, shapes
        self._shapes = list(shapes.values())
        (_, H, I), (_, S), (_, _, Z) = shapes["weight_x"], shapes["hyper_bias"], shapes["z_bias"]
        self.sizes = {"I": I, "H": H, "S": S, "Z": Z}
        for name in LayerParams._fields:
            shape = shapes.get(name)
            value = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every parameter to its initial value (paper, A.2.3)."""
        p = self._params()
        if p.weight_h.is_meta:  # it has no values, and the first random draw on meta imports SymPy, for seconds
            return
        with torch.no_grad():
            for name, role in ROLES.items():
                value = getattr(p, name)
                if value is not None:
                    _initialise(value, role)

    def check(self, dtype: torch.dtype | None, p: Mapping[str, Tensor | None] | None = None) -> torch.dtype | None:
        """Raise ValueError for a parameter with a wrong shape, or with another device or dtype than the first one.

        dtype: dtype of the previous layer, or None. Returns the dtype that the next layer should have. Under autocast
        dtypes other than float64 may differ, since autocast casts all of them to one.
        p: the parameters after hooks and parametrisations; by default the registered ones.
        """
        params = self._parameters if p is None else p
        values = [q for q in params.values() if q is not None]
        if not values:
            return dtype
        dtype, device = dtype or values[0].dtype, values[0].device
        shapes, dtypes, devices = [q.shape for q in values], {q.dtype for q in values}, {q.device for q in values}
        if shapes != self._shapes or dtypes != {dtype} or devices != {device}:
            own = {name: q for name, q in params.items() if name in LayerParams._fields}
            calls.parameters(own, self.shapes, self.prefix, dtype, device, autocasts=_autocasts(device.type))
        return dtype

    def forward(
        self,
        x: Tensor,
        start: LayerState,
        impl: str,
        options: Sequence[str],
        batch_sizes: Sequence[int],
        mask: Mask | None,
    ) -> tuple[Tensor, LayerState]:
        """Run this layer over all steps: x [T, B, I] -> out [T, B, H] and the last state; see `Inputs`.

        options: names in `OPTIONS` that the implementation must support.
        """
        p = self._params()
        if self._forward_pre_hooks or not self._has_all():
            # A hook or a parametrisation made some of them, which `check` could not see.
            self.check(None, p._asdict())
        device_type = p.weight_h.device.type
        if _autocasts(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            p = LayerParams._make(q if q is None else _autocast(q, dtype) for q in p)
            x, start = _autocast(x, dtype), LayerState(*(_autocast(part, dtype) for part in start))
            with torch.autocast(device_type, enabled=False):
                return _run(p, Inputs(x, start, mask, batch_sizes), impl, options, self.sizes)
        return _run(p, Inputs(x, start, mask, batch_sizes), impl, options, self.sizes)

    def _params(self) -> LayerParams:
        if self._has_all():
            return LayerParams._make(self._parameters.values())  # which is faster
        return LayerParams._make(getattr(self, name) for name in LayerParams._fields)

    def _has_all(self) -> bool:
        """True if the layer has every parameter under its own name, and no others."""
        return tuple(self._parameters) == LayerParams._fields

    def extra_repr(self) -> str:
        """The sizes that this layer maps between."""
        _, H, I = self._params().weight_x.shape
        return f"{I} -> {H}"


def _initialise(value: Tensor, role: Role) -> None:
    """Set a parameter of that role to its initial value (paper, A.2.3)."""
    match role:
        case Role.GATE_WEIGHT:
            for gate in value:
                # No QR in half precision: draw in float32 and round.
                wide = gate if gate.dtype == torch.float64 else gate.float()
                gate.copy_(nn.init.orthogonal_(torch.empty_like(wide)))
        case Role.EMBEDDING_WEIGHT:
            value[:2].zero_()
            value[2].normal_(std=0.01)
        case Role.EMBEDDING_BIAS:
            value.fill_(1.0)
        case Role.SCALE_WEIGHT:
            value[:2].fill_(0.1 / value.shape[-1])
            value[2].zero_()
        case _:  # of gates, and norms, which start as the identity
            value.fill_(0.0 if role.of_bias else 1.0)


def _run(
    p: LayerParams, inputs: Inputs, impl: str, options: Sequence[str], sizes: Mapping[str, int]
) -> tuple[Tensor, LayerState]:
    """Choose the implementation by options, sizes, and device and dtype of the parameters, and call it."""
    weight, x, start = p.weight_h, inputs.x, inputs.start
    calls.like_parameters(weight, x, start)
    chosen = resolve(impl, weight.device, weight.dtype, options, sizes)
    if x.shape[0] == 0:
        # An empty result that still depends on x and the parameters, so that backward() works and leaves zeros.
        zero = sum(q.sum() for q in (x, *p.present()))
        last = LayerState(*(part.clone() for part in start))  # no memory of the caller's
        return x.new_empty(0, x.shape[1], weight.shape[1]) * zero, last
    if inputs.batch_sizes and not chosen.packed:
        return by_segments(chosen.run, p, inputs)
    return chosen.run(p, inputs)


def _autocasts(device_type: str) -> bool:
    return _has_autocast(device_type) and torch.is_autocast_enabled(device_type)


@constant
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def _autocast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast as autocast does: every floating dtype but float64."""
    return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value
