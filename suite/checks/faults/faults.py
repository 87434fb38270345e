"""Wrong implementations that the comparison must reject: each is an edit of a right one, shown as it would be made.

A fault names the tensor that it damages, without its layer: "grad bias" stands for that of any layer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from suite.checks.faults.edits import Change, Edited, edits
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, Case

#: The simplest first.
VERIFIED = tuple(
    sorted((case for case in VERIFY if case.T > 2), key=lambda case: (case.layer_norm, case.L, case.state))
)


@dataclass(frozen=True)
class Fault(Edited):
    """A wrong implementation, the tensor that it damages, the dtype that it is run in, and the cases tried in turn."""

    damages: str = "out"
    dtype: torch.dtype = torch.float64
    cases: tuple[Case, ...] = VERIFIED

    def blamed(self, tensor: str) -> bool:
        """Return whether a tensor of the results is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor) == self.damages

    @property
    def of_the_gradient(self) -> bool:
        """Whether it damages gradients alone, so that nobody may blame the output."""
        return self.kind.startswith("gradient")


def _of(kind: str, file: str, runs: str = "row_scaled", cases: tuple[Case, ...] = VERIFIED) -> Callable[..., Fault]:
    """Return what makes faults of a kind: (name, *changes of the file, and what is not as usual) -> Fault."""

    def make(name: str, *changes: Change, kind: str = kind, **unusual: Any) -> Fault:
        return Fault(name, kind, edits(file, *changes), runs, **{"cases": cases, **unusual})

    return make


_step = _of("step", "row_scaled")
_hoisted = _of("step", "batched", "batched")
_normed = _of("layer norm", "row_scaled")
_norm = _of("layer norm", "definition")
_carried = _of("states and layers", "row_scaled")
_started = _of("states and layers", "sequences")
_module = _of("states and layers", "hyperlstm")
_masked = _of("masks", "row_scaled")
_autograd = _of("gradient, autograd", "row_scaled")
_sweep = _of("gradient by hand, sweep", "deferred", "deferred")
_products = _of("gradient by hand, products", "chunked_backward", "deferred")
_operator = _of("gradient by hand, products", "custom_op", "deferred")
_packed = _of("packed sequences", "packed", cases=RAGGED)
_sorted = _of("packed sequences", "sequences", cases=RAGGED)


def _stale(name: str, file: str, *changes: Change, damages: str) -> Fault:
    keeps = ("from .definition import", "_KEPT: dict[object, Tensor] = {}\nfrom .definition import")
    return Fault(name, "memory of earlier runs", edits(file, keeps, *changes), "deferred", damages)


def _chunked(name: str, *changes: Change, damages: str, kind: str = "gradient by hand, chunks") -> Fault:
    return Fault(name, kind, (*ONE_STEP_A_CHUNK, *edits("chunked_backward", *changes)), "deferred", damages)


def _tokens(name: str, file: str, *changes: Change, damages: str) -> Fault:
    kind = "gradient, packed sequences" if damages.startswith("grad") else "packed sequences"
    return Fault(name, kind, edits(file, *changes), "deferred", damages, cases=RAGGED)


def _dropped(name: str, file: str, *changes: Change, damages: str = "out", runs: str = "row_scaled") -> Fault:
    kind = "gradient, dropout" if damages.startswith("grad") else "dropout"
    return Fault(name, kind, edits(file, *changes), runs, damages, cases=DROPOUT)


#: In both passes of the gradients by hand.
ONE_STEP_A_CHUNK = edits(
    "chunks", ('"cpu": Limits(forward=16 << 20, backward=32 << 20', '"cpu": Limits(forward=1, backward=1')
)

#: In the loop over segments of packed sequences.
_BY_ROWS = "x[tokens].unflatten(0, (rows, steps)).transpose(0, 1)"
_LEAKS = "ended.append([part[rows:] + (part - part.detach()).mean() for part in s])"
_PADDED = (
    "def by_segments(",
    """
def _padded(x, sizes):
    return torch.cat([torch.nn.functional.pad(q, (0, 0, 0, sizes[0] - len(q))) for q in x.split(list(sizes))])


def _unpadded(out, sizes):
    return torch.cat([q[:size] for q, size in zip(out.split(sizes[0]), sizes)])


def by_segments(""",
)

_NORMALISED = "F.layer_norm(y, y.shape[-1:], eps=EPS)"

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
    _step("sigmoid by a rational function", ("torch.sigmoid(y_f)", "(0.5 + 0.5 * y_f / (1 + y_f.abs()))")),
    _step("tanh by a rational function", ("torch.tanh(y_g)", "(y_g * (27 + y_g**2) / (27 + 9 * y_g**2))")),
    _hoisted("products with x of the step before", ("zip(v.unflatten", "zip(v.roll(1, 0).unflatten")),
    _hoisted("gates and units of v exchanged", ("v.unflatten(-1, (4, H))", "v.unflatten(-1, (H, 4)).mT")),
    _hoisted("scales of h and x exchanged", ("d_h, d_x, d_b = torch.bmm", "d_x, d_h, d_b = torch.bmm")),
    _hoisted(
        "z_b with a bias", ("embedding_bias(p),", "F.pad(p.z_bias.flatten(), (0, 4 * p.z_bias.shape[2]), value=0.1),")
    ),
    # Layer norm
    _normed(
        "normalised c stored",
        ("h = torch.sigmoid(y_o)", "c = n_c(c); h = torch.sigmoid(y_o)"),
        ("torch.tanh(n_c(c))", "torch.tanh(c)"),
    ),
    _normed(
        "normalised c_hat stored",
        ("h_hat = torch.sigmoid(a_o)", "c_hat = n_hyper_c(c_hat); h_hat = torch.sigmoid(a_o)"),
        ("torch.tanh(n_hyper_c(c_hat))", "torch.tanh(c_hat)"),
    ),
    _normed("norm of c left out", ("torch.tanh(n_c(c))", "torch.tanh(c)")),
    _normed("norm of c_hat left out", ("n_hyper_c(c_hat)", "c_hat")),
    _normed("gates not normalised", ("n[k](", "(")),
    _normed("hyper gates not normalised", ("n_hyper[k](", "(")),
    _normed("one gate's norm for all gates", ("n[k](", "n[0](")),
    _normed("bias added after the norm", ("n[k](d_h", "b + n[k](d_h"), (".T) + b)", ".T))")),
    _norm("eps of 1e-3", ("EPS = 1e-5", "EPS = 1e-3")),
    _norm("norm without its bias", ("addcmul(bias, F", "addcmul(0 * bias, F")),
    _norm("one norm over all four gates", ("norm(weight[k], bias[k])", "norm(weight[0], bias[k])")),
    _norm("norm without its weight", ("eps=EPS), weight)", "eps=EPS), torch.ones_like(weight))")),
    _norm("norm without its mean", (_NORMALISED, "(y * (y.square().mean(-1, keepdim=True) + EPS).rsqrt())")),
    _norm(
        "norm by the unbiased variance",
        (_NORMALISED, "((y - y.mean(-1, keepdim=True)) * (y.var(-1, keepdim=True) + EPS).rsqrt())"),
    ),
    _norm(
        "eps outside the root",
        (_NORMALISED, "((y - y.mean(-1, keepdim=True)) / (y.std(-1, correction=0, keepdim=True) + EPS))"),
    ),
    _norm("norm over the batch", (_NORMALISED, "F.layer_norm(y.mT, y.shape[:1], eps=EPS).mT")),
    # State and layers
    _carried(
        "last state is the first",
        ("LayerState(h, c, h_hat, c_hat)", "LayerState(out[0], c, h_hat, c_hat)"),
        damages="h",
    ),
    _carried(
        "h and c returned in each other's place",
        ("LayerState(h, c, h_hat, c_hat)", "LayerState(c, h, h_hat, c_hat)"),
        damages="h",
    ),
    _carried(
        "last step dropped",
        ("for t in range(T)", "for t in range(max(T - 1, 1))"),
        ("torch.stack(out)", "torch.stack(out + out[-1:] * (T - len(out)))"),
    ),
    _carried("batch rows mixed", ("h = torch.sigmoid(y_o)", "c = c.roll(1, 0); h = torch.sigmoid(y_o)")),
    _carried("given c_hat ignored", ("h, c, h_hat, c_hat = s", "h, c, h_hat, c_hat = *s[:3], 0 * s.c_hat")),
    _module(
        "last layer's state not returned",
        ("in zip(*ends, strict=True)", "in zip(*ends[:-1], ends[0], strict=True)"),
        damages="h",
    ),
    _started(
        "layer 0's start given to every layer",
        (
            "in zip(*(part.unbind() for part in stacked), strict=True)",
            "in [next(zip(*(part.unbind() for part in stacked)))] * L",
        ),
    ),
    _carried("given h ignored", ("h, c, h_hat, c_hat = s", "h, c, h_hat, c_hat = 0 * s.h, *s[1:]")),
    _carried("given c ignored", ("h, c, h_hat, c_hat = s", "h, c, h_hat, c_hat = s.h, 0 * s.c, *s[2:]")),
    _carried("given h_hat ignored", ("h, c, h_hat, c_hat = s", "h, c, h_hat, c_hat = *s[:2], 0 * s.h_hat, s.c_hat")),
    _carried(
        "final h_hat of the step before",
        ("a_i, a_f", "last = h_hat; a_i, a_f"),
        ("LayerState(h, c, h_hat, c_hat)", "LayerState(h, c, last, c_hat)"),
        damages="h_hat",
    ),
    _carried(
        "final c normalised", ("LayerState(h, c, h_hat, c_hat)", "LayerState(h, n_c(c), h_hat, c_hat)"), damages="c"
    ),
    _carried(
        "final c_hat normalised",
        ("LayerState(h, c, h_hat, c_hat)", "LayerState(h, c, h_hat, n_hyper_c(c_hat))"),
        damages="c_hat",
    ),
    _carried("z of the first batch row for all", ("z_h = h_hat @", "z_h = h_hat[:1] @")),
    _module(
        "last layer dropped",
        (
            "y, end = self.layers[l](y, start, self._impl, given.batch_sizes, mask)",
            "new, end = self.layers[l](y, start, self._impl, given.batch_sizes, mask)\n"
            "            y = new if len(ends) < max(self.n_layers - 1, 1) else y",
        ),
    ),
    _module(
        "third layer runs the second's weights",
        ("y, end = self.layers[l](y, ", "y, end = self.layers[min(l, 1)](y, "),
    ),
    _module(
        "final states in reverse order of layers",
        ("in zip(*ends, strict=True)", "in zip(*ends[::-1], strict=True)"),
        damages="h",
    ),
    _started(
        "given state starts layer 0 alone",
        (
            "part.expand(L, *given.rows, size)",
            "part.expand(L, *given.rows, size) * part.new_tensor([1] + [0] * (L - 1)).view(L, 1, 1)",
        ),
    ),
    # Masks off by one
    _masked("last unit left out of W h", ("(h @ p.weight_h[k].T)", "(h[:, :-1] @ p.weight_h[k].T[:-1])")),
    _masked("last feature left out of W x", ("(x[t] @ p.weight_x[k].T)", "(x[t][:, :-1] @ p.weight_x[k].T[:-1])")),
    _masked(
        "last hyper unit left out of z",
        ("z_h = h_hat @ p.z_weight[0, k].T", "z_h = h_hat[:, :-1] @ p.z_weight[0, k].T[:-1]"),
    ),
    _masked("last of z left out of d", ("z_x @ p.d_weight[1, k].T", "z_x[:, :-1] @ p.d_weight[1, k].T[:-1]")),
    _masked(
        "last batch row of the output masked",
        ("out.append(h)", "out.append(torch.cat([h[: len(h) // 2], h[len(h) // 2 :] * (len(h) < 2)]))"),
    ),
    _products(
        "last row left out of the products",
        ("*products[name])", "*(rows[:-1] for rows in products[name]))"),
        damages="grad weight_h",
        kind="masks",
    ),
    _products(
        "first row left out of a sum",
        ('"hyper_bias": lambda: da.sum', '"hyper_bias": lambda: da[1:].sum'),
        damages="grad hyper_bias",
        kind="masks",
    ),
    # What was handed in is written to
    _operator(
        "x scaled in place",
        ("inputs = Inputs(x[at], weights", "inputs = Inputs(x[at].mul_(0.5), weights"),
        damages="input x",
        kind="inputs damaged",
    ),
    _operator(
        "x used up by the backward pass",
        ("    grads = [] if d_x", "    x.data.zero_()\n    grads = [] if d_x"),
        damages="input x",
        kind="inputs damaged",
    ),
    _sweep(
        "given c updated in place",
        ("torch.addcmul(f * c, i, g, out=to_c)", "torch.addcmul(c.data.mul_(f), i, g, out=to_c)"),
        damages="input state c",
        kind="inputs damaged",
    ),
    _operator(
        "given h overwritten by the last",
        ("return out, list(s), traj", "start[0].data.copy_(s.h); return out, list(s), traj"),
        damages="input state h",
        kind="inputs damaged",
    ),
    _sweep(
        "gradient handed in used up",
        ("dh, out=main.dh[t])", "dh, out=main.dh[t]); d_out[t].data.zero_()"),
        damages="input grad out",
        kind="inputs damaged",
    ),
    _sweep(
        "bias changed by the forward pass",
        ("_scale_bias(p)\n", "_scale_bias(p); p.bias.data.mul_(0.5)\n"),
        damages="input bias",
        kind="inputs damaged",
    ),
    _operator(
        "weight_h transposed by the backward pass",
        (
            "    grads = [] if d_x",
            "    p.weight_h.data.copy_(p.weight_h.mT.clone())\n    grads = [] if d_x",
        ),
        damages="input weight_h",
        kind="inputs damaged",
    ),
    # Memory that nothing was written to
    _products(
        "sums that start from uninitialised memory",
        ("name: torch.zeros_like(q, dtype=cell,", "name: torch.empty_like(q, dtype=cell,"),
        damages="grad weight_x",
        kind="uninitialised memory",
    ),
    _sweep(
        "first step of dz not written",
        ("dz[t, 8:] = torch.bmm", "if t.start: dz[t, 8:] = torch.bmm"),
        damages="grad z_weight",
        kind="uninitialised memory",
    ),
    _sweep(
        "last batch row of du not written",
        ("torch.mul(dy[t], d_h[t], out=du[t])", "torch.mul(dy[t][:-1], d_h[t][:-1], out=du[t][:-1])"),
        damages="grad weight_h",
        kind="uninitialised memory",
    ),
    _chunked(
        "last chunk dropped",
        (
            "stretches(cut, past.batch_sizes)",
            "stretches(cut, past.batch_sizes)[:-1]",
        ),
        damages="grad x",
        kind="uninitialised memory",
    ),
    _step(
        "last step of the output not written",
        ("torch.stack(out)", "torch.stack([*out[:-1], torch.empty_like(h)])"),
        kind="uninitialised memory",
    ),
    _started(
        "zeros made as zero times anything",
        ("given.x.new_zeros(B, size)", "0 * given.x.new_empty(B, size)"),
        kind="uninitialised memory",
    ),
    # What is kept from one run, or one layer, to the next
    _stale(
        "packed weights kept by shape",
        "sweeps",
        (
            "input_weight(self._p)",
            "_KEPT.setdefault(self._p.weight_x.shape, input_weight(self._p))",
        ),
        damages="out",
    ),
    _stale(
        "packed weights kept by address",
        "sweeps",
        (
            "input_weight(self._p)",
            "_KEPT.setdefault(self._p.weight_x.data_ptr(), input_weight(self._p))",
        ),
        damages="out",
    ),
    _stale(
        "products with x kept by its address",
        "sweeps",
        (
            "return linear(self.x, self.weights.x)",
            "return _KEPT.setdefault((self.x.data_ptr(), self.x.shape), linear(self.x, self.weights.x))",
        ),
        damages="out",
    ),
    _stale(
        "one output for all runs",
        "custom_op",
        (
            "return x.new_empty(*over, H), _states",
            "return _KEPT.setdefault((x.shape, H), x.new_empty(*over, H)).data, _states",
        ),
        damages="out",
    ),
    _stale(
        "one trajectory of c for all layers",
        "custom_op",
        (
            "return [x.new_empty(*over, F, dtype=dtype) for F, dtype in ((H, cell), ",
            "c = _KEPT.setdefault((*over, H), x.new_empty(*over, H, dtype=cell)).data\n"
            "    return [c] + [x.new_empty(*over, F, dtype=dtype) for F, dtype in (",
        ),
        damages="grad bias",
    ),
    _stale(
        "gradients added to those of the run before",
        "chunked_backward",
        (
            "name: torch.zeros_like(q, dtype=cell, memory_format=torch.contiguous_format)",
            "name: _KEPT.setdefault(q.data_ptr(), torch.zeros_like(q, dtype=cell))",
        ),
        damages="grad weight_x",
    ),
    _module(
        "starts where the run before ended",
        (
            "starts(given, state, self.n_layers, sizes)",
            'state is None and self.__dict__.get("_last") or starts(given, state, self.n_layers, sizes)',
        ),
        (
            "        h, c, h_hat, c_hat = (given",
            '        self.__dict__["_last"] = [type(end)(*(q.detach() for q in end)) for end in ends]\n'
            "        h, c, h_hat, c_hat = (given",
        ),
        kind="memory of earlier runs",
    ),
    _step(
        "dropout left on",
        ("torch.tanh(y_g)", "torch.nn.functional.dropout(torch.tanh(y_g), 0.1)"),
        kind="randomness",
    ),
    # Too few bits
    _step(
        "W h in half precision",
        ("(h @ p.weight_h[k].T)", "(h.half() @ p.weight_h[k].T.half()).to(h.dtype)"),
        kind="precision",
        dtype=torch.float32,
    ),
    _step(
        "z in half precision",
        ("d_h = z_h @ p.d_weight[0, k].T", "d_h = z_h.half().to(h.dtype) @ p.d_weight[0, k].T"),
        kind="precision",
        dtype=torch.float32,
    ),
    _step(
        "c carried in half precision",
        ("h = torch.sigmoid(y_o)", "c = c.half().to(h.dtype); h = torch.sigmoid(y_o)"),
        kind="precision",
        dtype=torch.float32,
    ),
    _step(
        "c_hat carried in float32",
        ("h_hat = torch.sigmoid(a_o)", "c_hat = c_hat.float().to(h.dtype); h_hat = torch.sigmoid(a_o)"),
        kind="precision",
    ),
    _norm(
        "norm in half precision",
        (_NORMALISED, "F.layer_norm(y.half(), y.shape[-1:], eps=EPS).to(y.dtype)"),
        kind="precision",
        dtype=torch.float32,
    ),
    _products(
        "products summed in half precision",
        ("zeros_like(q, dtype=cell,", "zeros_like(q, dtype=torch.bfloat16,"),
        damages="grad weight_x",
        kind="precision",
        dtype=torch.float32,
    ),
    _products(
        "a bias summed in half precision",
        ("da.sum(0, dtype=cell)", "da.half().sum(0)"),
        damages="grad hyper_bias",
        kind="precision",
        dtype=torch.float32,
    ),
    # Gradients of autograd
    _autograd(
        "gradient of the carried c cut",
        ("torch.sigmoid(y_f) * c +", "torch.sigmoid(y_f) * c.detach() +"),
        damages="grad bias",
    ),
    _autograd(
        "gradient of the carried c_hat cut",
        ("torch.sigmoid(a_f) * c_hat +", "torch.sigmoid(a_f) * c_hat.detach() +"),
        damages="grad hyper_bias",
    ),
    _autograd(
        "gradient of h_hat through z_h cut", ("z_h = h_hat @", "z_h = h_hat.detach() @"), damages="grad hyper_bias"
    ),
    _autograd(
        "gradient of h to the hyper LSTM cut",
        ("+ h @ p.hyper_weight_h", "+ h.detach() @ p.hyper_weight_h"),
        damages="grad bias",
    ),
    _autograd(
        "gradient of x to the hyper LSTM cut",
        ("x[t] @ p.hyper_weight_x", "x[t].detach() @ p.hyper_weight_x"),
        damages="grad x",
    ),
    _autograd(
        "gradient of h_hat through z_x cut", ("z_x = h_hat @", "z_x = h_hat.detach() @"), damages="grad hyper_bias"
    ),
    _autograd(
        "gradient of h_hat through z_b cut", ("z_b = h_hat @", "z_b = h_hat.detach() @"), damages="grad hyper_bias"
    ),
    _autograd(
        "gradient of h_hat to the hyper LSTM cut",
        ("+ h_hat @ p.hyper_weight_s", "+ h_hat.detach() @ p.hyper_weight_s"),
        damages="grad hyper_bias",
    ),
    _autograd("gradient of h through W h cut", ("(h @ p.weight_h", "(h.detach() @ p.weight_h"), damages="grad bias"),
    _autograd("gradient of x through W x cut", ("(x[t] @ p.weight_x", "(x[t].detach() @ p.weight_x"), damages="grad x"),
    _autograd("gradient of d_h cut", ("d_h * (h @", "d_h.detach() * (h @"), damages="grad z_weight"),
    # Gradients by hand: the sweep
    _sweep(
        "dh not carried",
        ("torch.add(d_out[t], dh,", "torch.add(d_out[t], 0 * dh,"),
        damages="grad weight_h",
    ),
    _sweep("d_out left out", ("torch.add(d_out[t], dh,", "torch.add(0 * d_out[t], dh,"), damages="grad bias"),
    _sweep("dc carried without forgetting", ("dc, self.forget, out=", "dc, 0 * dc + 1, out="), damages="grad bias"),
    _sweep("dc not carried", ("dc, self.forget, out=", "0 * dc, self.forget, out="), damages="grad bias"),
    _sweep("dh_hat not carried", ("torch.addmm(dh_hat, dz", "torch.addmm(0 * dh_hat, dz"), damages="grad hyper_bias"),
    _sweep("slope of tanh c left out", ("o * (1 - tanh_c * tanh_c)", "o"), damages="grad bias"),
    _sweep("slope of g left out", ("i * (1 - g * g)", "i"), damages="grad bias"),
    _sweep(
        "slope of f with the cell after the step", ("before * f * (1 - f)", "after * f * (1 - f)"), damages="grad bias"
    ),
    _sweep(
        "du without its scale", ("torch.mul(dy[t], d_h[t], out=du[t])", "du[t].copy_(dy[t])"), damages="grad weight_h"
    ),
    _sweep(
        "du scaled by d_x",
        ("torch.mul(dy[t], d_h[t], out=du[t])", "torch.mul(dy[t], d_x[t], out=du[t])"),
        damages="grad weight_h",
    ),
    _sweep("dv without its scale", ("(dy * d_x).flatten(1)", "dy.flatten(1)"), damages="grad weight_x"),
    _sweep(
        "dz of h from v",
        ("torch.mul(dy[t], u[t], out=scaled[:4]", "torch.mul(dy[t], v[t], out=scaled[:4]"),
        damages="grad z_weight",
    ),
    _sweep("dz of b left out", ("w_d[8:]).transpose(0, 1)", "0 * w_d[8:]).transpose(0, 1)"), damages="grad z_weight"),
    _sweep(
        "da not passed to h_hat",
        ("d_uh[t, 4 * H :] @ w_s", "0 * d_uh[t, 4 * H :] @ w_s"),
        damages="grad hyper_bias",
    ),
    _sweep(
        "norm's mean left out of its backward",
        ("self.mean[t], self.rstd[t], None", "0 * self.mean[t], self.rstd[t], None"),
        damages="grad weight_h",
    ),
    _sweep(
        "norm's weight left out of its backward",
        ("return (d * self.weight).to(d.dtype)", "return d"),
        damages="grad weight_h",
    ),
    _sweep("slope of i left out", ("masked(g, mask) * i * (1 - i)", "masked(g, mask) * i"), damages="grad bias"),
    _sweep("slope of o left out", ("tanh_c * o * (1 - o)", "tanh_c * o"), damages="grad bias"),
    _sweep("given c's gradient not forgotten", ("dc * self.forget", "dc * 1"), damages="grad state c"),
    _sweep("dv scaled by d_h", ("(dy * d_x).flatten(1)", "(dy * d_h).flatten(1)"), damages="grad weight_x"),
    _sweep("dz of x from u", ("dy[t], v[t], out=scaled[4:]", "dy[t], u[t], out=scaled[4:]"), damages="grad z_weight"),
    _sweep("dz not passed to h_hat", ("dz[t].view(B", "0 * dz[t].view(B"), damages="grad hyper_bias"),
    _sweep(
        "dh without the hyper LSTM's part",
        ("(w_h @ d_uh[t].T).T", "(w_h[:, : 4 * H] @ d_uh[t, : 4 * H].T).T"),
        damages="grad bias",
    ),
    _sweep("dh of another batch row", ("(w_h @ d_uh[t].T).T", "(w_h @ d_uh[t].roll(1, 0).T).T"), damages="grad bias"),
    _sweep(
        "norm's weight from what is not normalised",
        ("(self.y - self.mean).mul_(self.rstd)", "self.y.clone()"),
        damages="grad norm_weight",
    ),
    _sweep(
        "norm's bias with its weight",
        ("rows.sum(0)]", "(rows * self.weight).sum(0)]"),
        damages="grad norm_bias",
    ),
    _sweep(
        "norm of c left out of the backward",
        ("self.cell_norm.back(t, dh * self.into_cell[t])", "dh * self.into_cell[t]"),
        damages="grad bias",
    ),
    # Gradients by hand: the products after it
    _products(
        "weight_h from h after the step",
        ('"weight_h": (du, h)', '"weight_h": (du, chunk.after.h.flatten(0, 1))'),
        damages="grad weight_h",
    ),
    _products(
        "hyper_weight_s from h_hat after the step", ("(da, h_hat_before)", "(da, h_hat)"), damages="grad hyper_weight_s"
    ),
    _products(
        "z_weight from h_hat before the step",
        ("(dz.flatten(1), h_hat)", "(dz.flatten(1), h_hat_before)"),
        damages="grad z_weight",
    ),
    _products("d_weight of x from u", ("(dy * v, 1)", "(dy * u, 1)"), damages="grad d_weight"),
    _products("z_bias of x and b", ("dz[:, :8].sum", "dz[:, 4:].sum"), damages="grad z_bias"),
    _products(
        "gradient of x without the hyper LSTM's part",
        ("torch.cat([deltas.dv, da], dim=-1)", "torch.cat([deltas.dv, 0 * da], dim=-1)"),
        damages="grad x",
    ),
    _operator(
        "gradients of final states ignored",
        ("carried = LayerState(*(d.to", "carried = LayerState(*(0 * d.to"),
        damages="grad bias",
    ),
    _operator(
        "given states get each other's gradient",
        ("in zip(d_start, needs", "in zip((*d_start[1::-1], *d_start[2:]), needs"),
        damages="grad state h",
    ),
    _products(
        "hyper_weight_h from h after the step",
        ('"hyper_weight_h": (da, h)', '"hyper_weight_h": (da, chunk.after.h.flatten(0, 1))'),
        damages="grad hyper_weight_h",
    ),
    _products("d_weight of h from v", ("(dy * u, 0)", "(dy * v, 0)"), damages="grad d_weight"),
    _products("d_weight of b from u", ("(dy, 2)", "(dy * u, 2)"), damages="grad d_weight"),
    _products("gradient of x without the main LSTM's part", ("cat([deltas.dv", "cat([0 * deltas.dv"), damages="grad x"),
    # Gradients by hand: from one chunk of steps to the next
    _chunked(
        "h before a chunk taken a step late",
        ("slice(begin - 1, end - 1)", "slice(begin, end)"),
        damages="grad weight_h",
    ),
    _chunked("gradient lost between chunks", ("deltas, carried = sweep", "deltas, _ = sweep"), damages="grad bias"),
    _chunked(
        "each chunk overwrites the sums",
        (
            "            _add_weight_gradients(",
            "            torch._foreach_zero_(list(totals.values()))\n            _add_weight_gradients(",
        ),
        damages="grad weight_h",
    ),
    Fault(
        "each chunk starts from the given state",
        "states and layers",
        (*ONE_STEP_A_CHUNK, *edits("custom_op", ("sweep(inputs, s, into", "sweep(inputs, LayerState(*start), into"))),
        "deferred",
    ),
    # Packed sequences
    _packed(
        "rows run on past their end",
        ("outs, ended, end = [], [], 0", "outs, ended, end = [], [], 0; x = _padded(x, batch_sizes)"),
        ("in segments(batch_sizes):", "in [(len(batch_sizes), batch_sizes[0])]:"),
        ("return torch.cat(outs),", "return _unpadded(outs[0], batch_sizes),"),
        _PADDED,
        damages="h",
    ),
    _packed(
        "final states taken at the last step",
        ("zip(s, *reversed(ended), strict=True)", "zip(s, *([0 * part for part in e] for e in reversed(ended)))"),
        damages="h",
    ),
    _packed("rows that ended go on in place of others", ("part[:rows] for part in s", "part[-rows:] for part in s")),
    _packed("ended rows in the wrong order", ("reversed(ended)", "ended"), damages="h"),
    _packed(
        "each segment starts from zeros",
        ("outs.append(out", "s = LayerState(*(0 * part for part in s)); outs.append(out"),
        damages="out",
    ),
    _packed("tokens of a segment row by row", ("x[tokens].unflatten(0, (steps, rows))", _BY_ROWS)),
    _packed(
        "gradient of a row's own last state cut",
        ("ended.append([part[rows:] for", "ended.append([part[rows:].detach() for"),
        damages="grad weight_h",
        kind="gradient, packed sequences",
    ),
    _packed(
        "gradient of a row's state spread over the others",
        ("ended.append([part[rows:] for part in s])", _LEAKS),
        damages="grad x",
        kind="gradient, packed sequences",
    ),
    _sorted("given states in the caller's order", ("part.index_select(1, order)", "part")),
    _sorted("given states sorted backwards", ("order = self._packed.sorted_indices", "order = self._packed[3]")),
    _sorted("final states left sorted", ("part.index_select(1, back)", "part"), damages="h"),
    _sorted(
        "final states sorted twice", ("back = self._packed.unsorted_indices", "back = self._packed[2]"), damages="h"
    ),
    _sorted(
        "output unpacked in the sorted order",
        ("PackedSequence(out, batch_sizes, order, back)", "PackedSequence(out, batch_sizes)"),
    ),
    _tokens("ended rows put last first", "deferred", ("*reversed(ended), strict", "*ended, strict"), damages="h"),
    _tokens(
        "gradient of a row's own last state left out",
        "deferred",
        ("[going, q[len(going) : rows]]", "[going, 0 * q[len(going) : rows]]"),
        damages="grad weight_h",
    ),
    _tokens(
        "rows join with the forgetting of others",
        "deferred",
        ("        self.forget = self.ones\n        return", "        self.forget = self.forget[:1]\n        return"),
        damages="grad bias",
    ),
    _tokens(
        "states before taken with the rows of their own step",
        "chunked_backward",
        ("rows[:-1].repeat_interleave(rows[1:])", "rows[1:].repeat_interleave(rows[1:])"),
        damages="grad weight_h",
    ),
    # Dropout
    _dropped("mask of g before its tanh", "row_scaled", ("m(torch.tanh(y_g), kept[t])", "torch.tanh(m(y_g, kept[t]))")),
    _dropped(
        "mask on the cell",
        "row_scaled",
        (
            "c = torch.sigmoid(y_f) * c + torch.sigmoid(y_i) *",
            "c = m(torch.sigmoid(y_f) * c, kept[t]) + torch.sigmoid(y_i) *",
        ),
    ),
    _dropped("mask on the output gate", "row_scaled", ("h = torch.sigmoid(y_o)", "h = m(torch.sigmoid(y_o), kept[t])")),
    _dropped("what is kept of g not scaled", "dropout", ("g * kept * scale", "g * kept")),
    _dropped("what is kept between layers not scaled", "dropout", ("x * mask.kept * mask.scale", "x * mask.kept")),
    _dropped("scaled by 1 / p", "dropout", ("1 / (1 - p) if", "1 / p if")),
    _dropped("dropped and kept exchanged", "dropout", ("bits > dropped", "bits <= dropped")),
    _dropped("one mask for all steps", "dropout", ("mask.kept.unbind()", "[mask.kept[0]] * T")),
    _dropped("masks a step late", "dropout", ("mask.kept.unbind()", "mask.kept.roll(1, 0).unbind()")),
    _dropped("one mask for all rows", "dropout", ("mask.kept.unbind()", "mask.kept[:, :1].unbind()")),
    _dropped("dropout in evaluation mode", "hyperlstm", ("(p if self.training else 0.0 for p in", "(p for p in")),
    _dropped("dropout on the first layer's input", "hyperlstm", ("between if l else 0.0", "between")),
    _dropped("no dropout between layers", "hyperlstm", ("between if l else 0.0", "0.0")),
    _dropped(
        "one probability for both", "hyperlstm", ("(self.dropout, self.recurrent_dropout))", "[self.dropout] * 2)")
    ),
    _dropped(
        "gradient of i without g's mask",
        "deferred",
        ("masked(g, mask) * i", "g * i"),
        damages="grad bias",
        runs="deferred",
    ),
    _dropped(
        "gradient of g without its mask",
        "deferred",
        ("masked(i * (1 - g * g), mask)", "i * (1 - g * g)"),
        damages="grad bias",
        runs="deferred",
    ),
)
