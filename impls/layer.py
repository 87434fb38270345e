"""One layer as a module: its parameters, their initial values, and the choice of the implementation that runs it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from . import checks
from .definition import LayerParams, LayerState, shapes
from .dropout import Mask
from .registry import constant, resolve


class Layer(nn.Module):
    """One layer: owns its parameters and reads them afresh at every call, so that hooks and parametrisations work.

    prefix: of its parameters' names in the model, for errors.
    """

    def __init__(
        self,
        prefix: str,
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
        self.prefix = prefix
        #: The shape of each parameter that this layer has, by name.
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
            for name, value in p._asdict().items():
                if "norm" in name and value is not None:
                    value.fill_(1.0 if name.endswith("weight") else 0.0)

    def check(self, dtype: torch.dtype | None) -> torch.dtype | None:
        """Raise ValueError for a parameter with a wrong shape, or on another device or in another dtype than the first.

        dtype: that of the layer before, or None. Returns the dtype that the next layer should have. Under autocast
        dtypes may differ, since it casts all to one. What hooks and parametrisations make is checked by `forward`.
        """
        return self._check(self._parameters, dtype)

    def _check(self, given: Mapping[str, Tensor | None], dtype: torch.dtype | None) -> torch.dtype | None:
        values = [q for q in given.values() if q is not None]
        if not values:
            return dtype
        dtype, device = dtype or values[0].dtype, values[0].device
        if [q.shape for q in values] != self._shapes or any(q.dtype != dtype or q.device != device for q in values):
            own = {name: q for name, q in given.items() if name in LayerParams._fields}
            one_dtype = None if _autocasts(device.type) else dtype
            checks.parameters(own, self.shapes, self.prefix, one_dtype, device)
        return dtype

    def forward(
        self, x: Tensor, start: LayerState, impl: str, batch_sizes: Sequence[int] | None, mask: Mask | None
    ) -> tuple[Tensor, LayerState]:
        """Run this layer over all steps: x [T, B, I] -> out [T, B, H] and the last state.

        For packed sequences x is [N, I] and out [N, H], and batch_sizes holds how many are still going at each step.
        mask: of g, in the shape of out, or None.
        """
        p = self._params()
        if self._forward_pre_hooks or not self._has_all():
            # A hook or a parametrisation made some of them, which `check` could not see.
            self._check(p._asdict(), None)
        device_type = p.weight_h.device.type
        if _autocasts(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            p = LayerParams._make(q if q is None else _autocast(q, dtype) for q in p)
            x, start = _autocast(x, dtype), LayerState(*(_autocast(part, dtype) for part in start))
            with torch.autocast(device_type, enabled=False):
                return _run(p, x, start, impl, batch_sizes, mask)
        return _run(p, x, start, impl, batch_sizes, mask)

    def _params(self) -> LayerParams:
        if self._has_all():
            return LayerParams._make(self._parameters.values())  # which is faster
        return LayerParams._make(getattr(self, name) for name in LayerParams._fields)

    def _has_all(self) -> bool:
        """Return whether each parameter is registered under its own name, and nothing else is."""
        return tuple(self._parameters) == LayerParams._fields

    def extra_repr(self) -> str:
        """Return the sizes that this layer maps between."""
        _, H, I = self._params().weight_x.shape
        return f"{I} -> {H}"


def _run(
    p: LayerParams, x: Tensor, start: LayerState, impl: str, batch_sizes: Sequence[int] | None, mask: Mask | None
) -> tuple[Tensor, LayerState]:
    """Choose the implementation by what the parameters are here and now, and call it."""
    weight = p.weight_h
    checks.like_parameters(weight, x, start)
    chosen = resolve(impl, weight.device, weight.dtype)
    if x.shape[0] == 0:
        # No numbers, but still a function of x and the parameters, so that backward() works and leaves zeros.
        nothing = sum(q.sum() for q in (x, *p.present()))
        return x.new_empty(0, x.shape[1], weight.shape[1]) * nothing, start
    if batch_sizes is None:
        return chosen.run(p, x, start, mask)
    return chosen.run_packed(p, x, batch_sizes, start, mask)


def _empty(name: str, shape: tuple[int, ...], device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    try:
        return torch.empty(shape, device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        where = f" on {device}" if device else ""
        raise type(error)(f"{name}: cannot allocate {list(shape)}{where}: {str(error).splitlines()[0]}") from error


def _autocasts(device_type: str) -> bool:
    return _has_autocast(device_type) and torch.is_autocast_enabled(device_type)


@constant
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def _autocast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast as autocast does: any floating dtype but float64."""
    return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value
