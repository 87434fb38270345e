"""Wrong implementations that the comparison must reject: each is an edit of a right one, shown as it would be made."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch

import impls

from .cases import Case
from .compare import Build

Edit = tuple[str, str]


@dataclass(frozen=True)
class Fault:
    """Edits (right, wrong) of `impls/<file>.py`, and the implementation that shows them."""

    name: str
    file: str
    edits: tuple[Edit, ...]
    runs: str

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Yield what builds a HyperLSTM with the fault in it; the package itself stays as it is.

        LookupError if what an edit replaces does not occur exactly once any more.
        """
        edited = self._load(self.file, self.edits)
        runner = edited if self.file == self.runs else import_module(f"{impls.__name__}.{self.runs}")
        if self.file not in (self.runs, "hyperlstm"):
            with mock.patch.dict(sys.modules, {f"{impls.__name__}.{self.file}": edited}):
                runner = self._load(self.runs, ())
        cls = edited.HyperLSTM if self.file == "hyperlstm" else impls.HyperLSTM
        with mock.patch.dict(sys.modules, {f"{impls.__name__}.{self.runs}": runner}):
            yield _build(cls, self.runs)

    def _load(self, file: str, edits: tuple[Edit, ...]) -> ModuleType:
        path = Path(impls.__file__).with_name(f"{file}.py")
        source = path.read_text(encoding="utf-8")
        for right, wrong in edits:
            if source.count(right) != 1:
                raise LookupError(f"{self.name}: expected {right!r} once in {path.name}, found {source.count(right)}")
            source = source.replace(right, wrong)
        # A name of its own, since operators are registered under it.
        slug = re.sub(r"\W+", "_", self.name)
        module = ModuleType(f"{impls.__name__}.{file}_with_{slug}")
        module.__package__ = impls.__name__
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # where dataclasses and operators look for what they belong to
        exec(compile(source, f"{path} with {self.name}", "exec"), module.__dict__)
        return module


def _build(cls: type[impls.HyperLSTM], impl: str) -> Build:
    def build(case: Case, dtype: torch.dtype, device: torch.device) -> impls.HyperLSTM:
        return cls(
            case.I, case.H, case.S, case.Z, case.L, layer_norm=case.layer_norm, impl=impl, dtype=dtype, device=device
        )

    return build


def _step(name: str, *edits: Edit) -> Fault:
    return Fault(name, "row_scaled", edits, "row_scaled")


def _in(file: str, name: str, *edits: Edit) -> Fault:
    return Fault(name, file, edits, "row_scaled")


def _gradient(name: str, *edits: Edit) -> Fault:
    return Fault(name, "deferred", edits, "deferred")


def _skeleton(name: str, *edits: Edit) -> Fault:
    return Fault(name, "recurrence", edits, "deferred")


FAULTS = (
    # The step
    _step("gates i and f swapped", ("y_i, y_f, y_g, y_o = y", "y_f, y_i, y_g, y_o = y")),
    _step("gates i and o swapped", ("y_i, y_f, y_g, y_o = y", "y_o, y_f, y_g, y_i = y")),
    _step("hyper gates g and o swapped", ("a_i, a_f, a_g, a_o = (", "a_i, a_f, a_o, a_g = (")),
    _step("d_h and d_x swapped", ("d_h * (h @", "d_x * (h @"), ("d_x * (x[t] @", "d_h * (x[t] @")),
    _step("scale of W h dropped", ("d_h * (h @", "(h @")),
    _step("scale of W x dropped", ("d_x * (x[t] @", "(x[t] @")),
    _step("dynamic bias dropped", ("z_b @ p.d_weight[2, k].T + p.bias[k]", "p.bias[k]")),
    _step("bias dropped", ("z_b @ p.d_weight[2, k].T + p.bias[k]", "z_b @ p.d_weight[2, k].T")),
    _step("z_h without its bias", (" + p.z_bias[0, k]", "")),
    _step("z_x with the bias of z_h", ("p.z_bias[1, k]", "p.z_bias[0, k]")),
    _step("z_b from the weight of z_x", ("p.z_weight[2, k]", "p.z_weight[1, k]")),
    _step("one gate's z for all gates", ("p.z_weight[0, k]", "p.z_weight[0, 0]")),
    _step("hyper LSTM blind to h", ("h @ p.hyper_weight_h[k].T", "0 * h @ p.hyper_weight_h[k].T")),
    _step("hyper LSTM blind to x", ("x[t] @ p.hyper_weight_x[k].T", "0 * x[t] @ p.hyper_weight_x[k].T")),
    _step("hyper LSTM without its recurrence", ("h_hat @ p.hyper_weight_s", "0 * h_hat @ p.hyper_weight_s")),
    _step("hyper bias dropped", ("+ p.hyper_bias[k]", "+ 0 * p.hyper_bias[k]")),
    _step(
        "z reads h_hat of the step before",
        ("h_hat = torch.sigmoid(a_o)", "last, h_hat = h_hat, torch.sigmoid(a_o)"),
        ("z_h = h_hat @", "z_h = last @"),
        ("z_x = h_hat @", "z_x = last @"),
        ("z_b = h_hat @", "z_b = last @"),
    ),
    _step(
        "z_b reads h_hat of the step before", ("a_i, a_f", "last = h_hat; a_i, a_f"), ("z_b = h_hat @", "z_b = last @")
    ),
    _step("main LSTM reads x of the step before", ("(x[t] @ p.weight_x", "(x[t - 1] @ p.weight_x")),
    _step("forget bias of 1 added", ("torch.sigmoid(y_f)", "torch.sigmoid(y_f + 1)")),
    _step("g without its tanh", ("torch.tanh(y_g)", "y_g")),
    _step("c passed on without its tanh", ("torch.sigmoid(y_o) * torch.tanh(n_c(c))", "torch.sigmoid(y_o) * n_c(c)")),
    # Layer norm
    _step(
        "normalised c stored",
        ("h = torch.sigmoid(y_o)", "c = n_c(c); h = torch.sigmoid(y_o)"),
        ("torch.tanh(n_c(c))", "torch.tanh(c)"),
    ),
    _step(
        "normalised c_hat stored",
        ("h_hat = torch.sigmoid(a_o)", "c_hat = n_hyper_c(c_hat); h_hat = torch.sigmoid(a_o)"),
        ("torch.tanh(n_hyper_c(c_hat))", "torch.tanh(c_hat)"),
    ),
    _step("norm of c left out", ("torch.tanh(n_c(c))", "torch.tanh(c)")),
    _step("norm of c_hat left out", ("n_hyper_c(c_hat)", "c_hat")),
    _step("gates not normalised", ("n[k](", "(")),
    _step("hyper gates not normalised", ("n_hyper[k](", "(")),
    _step("one gate's norm for all gates", ("n[k](", "n[0](")),
    _step("bias added after the norm", ("n[k](d_h", "b + n[k](d_h"), (".T) + b)", ".T))")),
    _in("layer", "eps of 1e-3", ("EPS = 1e-5", "EPS = 1e-3")),
    _in("layer", "norm without its bias", ("addcmul(bias, F", "addcmul(0 * bias, F")),
    _in("layer", "one norm over all four gates", ("norm(weight[k], bias[k])", "norm(weight[0], bias[k])")),
    # State and layers
    _step("last state is the first", ("LayerState(h, c, h_hat, c_hat)", "LayerState(out[0], c, h_hat, c_hat)")),
    _step(
        "h and c returned in each other's place", ("LayerState(h, c, h_hat, c_hat)", "LayerState(c, h, h_hat, c_hat)")
    ),
    _step(
        "last step dropped",
        ("for t in range(T)", "for t in range(max(T - 1, 1))"),
        ("torch.stack(out)", "torch.stack(out + out[-1:] * (T - len(out)))"),
    ),
    _step("batch rows mixed", ("h = torch.sigmoid(y_o)", "c = c.roll(1, 0); h = torch.sigmoid(y_o)")),
    _step("given c_hat ignored", ("h, c, h_hat, c_hat = s", "h, c, h_hat, c_hat = *s[:3], 0 * s.c_hat")),
    _in(
        "hyperlstm",
        "last layer's state not returned",
        ("in zip(*ends, strict=True)", "in zip(*ends[:-1], ends[0], strict=True)"),
    ),
    _in(
        "hyperlstm",
        "layer 0's start given to every layer",
        ("for parts in zip(*starts, strict=True)", "for parts in [next(zip(*starts))] * L"),
    ),
    # Gradients of autograd
    _step("gradient of the carried c cut", ("torch.sigmoid(y_f) * c +", "torch.sigmoid(y_f) * c.detach() +")),
    _step(
        "gradient of the carried c_hat cut", ("torch.sigmoid(a_f) * c_hat +", "torch.sigmoid(a_f) * c_hat.detach() +")
    ),
    _step("gradient of h_hat through z_h cut", ("z_h = h_hat @", "z_h = h_hat.detach() @")),
    _step("gradient of h to the hyper LSTM cut", ("+ h @ p.hyper_weight_h", "+ h.detach() @ p.hyper_weight_h")),
    _step("gradient of x to the hyper LSTM cut", ("x[t] @ p.hyper_weight_x", "x[t].detach() @ p.hyper_weight_x")),
    # Gradients by hand: the sweep
    _gradient("dh not carried", ("torch.add(chunk.d_out[t], dh,", "torch.add(chunk.d_out[t], 0 * dh,")),
    _gradient("d_out left out", ("torch.add(chunk.d_out[t], dh,", "torch.add(0 * chunk.d_out[t], dh,")),
    _gradient("dc carried without forgetting", ("dc, self.forget[t + 1], out=", "dc, 0 * dc + 1, out=")),
    _gradient("dc not carried", ("dc, self.forget[t + 1], out=", "0 * dc, self.forget[t + 1], out=")),
    _gradient("dh_hat not carried", ("torch.addmm(dh_hat, dz", "torch.addmm(0 * dh_hat, dz")),
    _gradient("slope of tanh c left out", ("o * (1 - tanh_c * tanh_c)", "o")),
    _gradient("slope of g left out", ("i * (1 - g * g)", "i")),
    _gradient("slope of f with the cell after the step", ("before * f * (1 - f)", "after * f * (1 - f)")),
    _gradient("du without its scale", ("torch.mul(dy[t], d_h[t], out=du[t])", "du[t].copy_(dy[t])")),
    _gradient("du scaled by d_x", ("torch.mul(dy[t], d_h[t], out=du[t])", "torch.mul(dy[t], d_x[t], out=du[t])")),
    _gradient("dv without its scale", ("(dy * d_x).flatten(2)", "dy.flatten(2)")),
    _gradient("dz of h from v", ("torch.mul(dy[t], u[t], out=dyu)", "torch.mul(dy[t], v[t], out=dyu)")),
    _gradient("dz of b left out", ("w_d[8:]).transpose(0, 1)", "0 * w_d[8:]).transpose(0, 1)")),
    _gradient("da not passed to h_hat", ("rec[t, :, 4 * H :] @ w_s", "0 * rec[t, :, 4 * H :] @ w_s")),
    _gradient(
        "norm's mean left out of its backward",
        ("self.mean[t], self.rstd[t], None", "0 * self.mean[t], self.rstd[t], None"),
    ),
    _gradient("norm's weight left out of its backward", ("return (d * self.weight).to(d.dtype)", "return d")),
    # Gradients by hand: the products after it
    _skeleton(
        "weight_h from h after the step", ('"weight_h": (du, h)', '"weight_h": (du, chunk.after.h.flatten(0, 1))')
    ),
    _skeleton("hyper_weight_s from h_hat after the step", ("(da, h_hat_before)", "(da, h_hat)")),
    _skeleton("z_weight from h_hat before the step", ("(dz.flatten(1), h_hat)", "(dz.flatten(1), h_hat_before)")),
    _skeleton("d_weight of x from u", ("(dy * v, 1)", "(dy * u, 1)")),
    _skeleton("z_bias of x and b", ("dz[:, :8].sum", "dz[:, 4:].sum")),
    _skeleton(
        "gradient of x without the hyper LSTM's part",
        ("deltas.rec[..., -4 * h_hat.shape[1] :]]", "0 * deltas.rec[..., -4 * h_hat.shape[1] :]]"),
    ),
    _skeleton(
        "gradients of final states ignored", ("carried = LayerState(d_h, d_c", "carried = LayerState(0 * d_h, 0 * d_c")
    ),
    _skeleton("given states get each other's gradient", ("*carried]\n", "*carried[1::-1], *carried[2:]]\n")),
    _skeleton("sums in half precision", ("zeros_like(q, dtype=cell)", "zeros_like(q, dtype=torch.bfloat16)")),
    _skeleton(
        "an uninitialised gradient",
        ("name: torch.zeros_like(q, dtype=cell)", "name: torch.full_like(q, float('nan'), dtype=cell)"),
    ),
)
