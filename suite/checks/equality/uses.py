"""Uses whose results follow from those of a plain call: what trains, what gradients arrive, how a model is called.

The expected results are those of the oracle, which is called in the plain way.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.definition import LayerParams
from suite.shared.cases import Case
from suite.shared.compare import OUTPUTS, STATE_NAMES, Draw, Results
from suite.shared.oracle import Output, State, packed

Numbers = Callable[[Draw], Draw]


class Use(NamedTuple):
    """A use of a model; name: in a failure."""

    name: str
    #: Results of the model on some numbers.
    run: Callable[[HyperLSTM, Case, Draw], Results]
    #: What they should be, from the results of a plain call on `numbers`.
    expected: Callable[[Results], Results] = dict
    numbers: Numbers | None = None
    #: A parameter without which there is nothing to check.
    parameter: str = "weight_h"


def plain(model: HyperLSTM, case: Case, given: Draw, wanted: Collection[str] | None = None) -> Results:
    """Output, final states and every gradient of one call; wanted: what requires a gradient, all by default."""
    leaves = _leaves(model, given)
    if wanted is not None:
        for name, leaf in leaves.items():
            leaf.requires_grad_(name in wanted)
    out, last = _call(model, case, leaves)
    torch.autograd.backward((out, *last), given.cotangents)
    return _results(out, last, leaves)


def _leaves(model: HyperLSTM, given: Draw) -> dict[str, Tensor]:
    """X, given states and parameters by name, all of which require a gradient; the numbers are copies."""
    model.zero_grad(set_to_none=True)
    parts = zip(STATE_NAMES, given.state or (), strict=False)
    arguments = {"x": given.x.clone(), **{f"state {name}": part.clone() for name, part in parts}}
    return {name: leaf.requires_grad_() for name, leaf in [*arguments.items(), *model.named_parameters()]}


def _state(leaves: Results) -> State | None:
    return tuple(leaf for name, leaf in leaves.items() if name.startswith("state")) or None


def _call(model: HyperLSTM, case: Case, leaves: Results) -> Output:
    torch.manual_seed(0)  # of dropout's masks
    return packed(model, case, leaves["x"], _state(leaves))


def _results(out: Tensor, last: State, leaves: Results) -> Results:
    gradients = {f"grad {name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    outputs = dict(zip(OUTPUTS, (out, *last), strict=True))
    return {name: value.detach().clone() for name, value in (outputs | gradients).items()}


def _outputs(results: Results) -> Results:
    return {name: results[name] for name in OUTPUTS}


# What requires a gradient


def _training(name: str, wanted: Callable[[str], bool], parameter: str = "weight_h") -> Use:
    """Only leaves of some names require a gradient."""

    def run(model: HyperLSTM, case: Case, given: Draw) -> Results:
        return plain(model, case, given, [leaf for leaf in _leaves(model, given) if wanted(leaf)])

    def expected(results: Results) -> Results:
        return _outputs(results) | {
            name: value for name, value in results.items() if name.startswith("grad ") and wanted(name[len("grad ") :])
        }

    return Use(name, run, expected, parameter=parameter)


def _frozen() -> Iterator[Use]:
    def named(leaf: str) -> str:
        return leaf.rsplit(".", 1)[-1]

    for q in LayerParams._fields:
        yield _training(f"{q} frozen", lambda leaf, q=q: named(leaf) != q, q)  # type: ignore[misc]
        yield _training(f"{q} alone", lambda leaf, q=q: named(leaf) == q, q)  # type: ignore[misc]
    yield _training("hypernetwork alone", lambda leaf: named(leaf).startswith(("hyper", "z_", "d_")))
    yield _training("biases and norms alone", lambda leaf: "bias" in leaf or "norm" in leaf)
    yield _training("parameters alone", lambda leaf: leaf.startswith("layers"))
    yield _training("x alone", lambda leaf: leaf == "x")
    yield _training("states alone", lambda leaf: leaf.startswith("state"))
    yield _training("h alone", lambda leaf: leaf == "state h")


# The gradients that arrive


def _arriving(name: str, gradient: Callable[[Tensor], Tensor], numbers: Numbers | None = None) -> Use:
    """The gradient of out in another layout; gradient: makes it of the drawn one."""

    def run(model: HyperLSTM, case: Case, given: Draw) -> Results:
        d_out, *d_last = given.cotangents
        return plain(model, case, given._replace(cotangents=(gradient(d_out), *d_last)))

    return Use(name, run, numbers=numbers)


def _in_every_second_column(d: Tensor) -> Tensor:
    wide = d.new_full((*d.shape[:-1], 2 * d.shape[-1]), torch.nan)
    wide[..., ::2] = d
    return wide[..., ::2]


def _of_one_row(given: Draw) -> Draw:
    d_out, *d_last = given.cotangents
    return given._replace(cotangents=(d_out[:1, :1].expand_as(d_out).contiguous(), *d_last))


def _scaled(factor: float) -> Use:
    def run(model: HyperLSTM, case: Case, given: Draw) -> Results:
        return plain(model, case, given._replace(cotangents=tuple(factor * d for d in given.cotangents)))

    def expected(results: Results) -> Results:
        return {name: value * factor if name.startswith("grad ") else value for name, value in results.items()}

    return Use(f"gradients times {factor:g}", run, expected)


def _of(name: str, *outputs: str) -> Use:
    """Of the output and the final states only some have a gradient."""

    def numbers(given: Draw) -> Draw:
        cotangents = zip(OUTPUTS, given.cotangents, strict=True)
        return given._replace(cotangents=tuple(d if name in outputs else torch.zeros_like(d) for name, d in cotangents))

    def run(model: HyperLSTM, case: Case, given: Draw) -> Results:
        leaves = _leaves(model, given)
        out, last = _call(model, case, leaves)
        every = zip(OUTPUTS, (out, *last), given.cotangents, strict=True)
        value, d = zip(*((value, d) for name, value, d in every if name in outputs), strict=True)
        torch.autograd.backward(value, d)
        for leaf in leaves.values():
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return _results(out, last, leaves)

    return Use(name, run, numbers=numbers)


def _twice(model: HyperLSTM, case: Case, given: Draw) -> Results:
    leaves = _leaves(model, given)
    out, last = _call(model, case, leaves)
    for retain in (True, False):
        torch.autograd.backward((out, *last), given.cotangents, retain_graph=retain)
    return _results(out, last, leaves)


def _doubled(results: Results) -> Results:
    return {name: 2 * value if name.startswith("grad ") else value for name, value in results.items()}


# Calls


def _batch_first(model: HyperLSTM, case: Case, given: Draw) -> Results:
    model.batch_first = True
    d_out, *d_last = given.cotangents
    turned = given._replace(x=given.x.transpose(0, 1).contiguous(), cotangents=(d_out.transpose(0, 1), *d_last))
    # The call below does not look at lengths, which a packed sequence brings along.
    results = plain(model, replace(case, lengths=()), turned)
    model.batch_first = False
    return results | {name: results[name].transpose(0, 1) for name in ("out", "grad x")}


def _after_other_sizes(model: HyperLSTM, case: Case, given: Draw) -> Results:
    """The call repeated, with calls of other sizes in between, of which one has no gradient."""
    plain(model, case, given)
    for rows, steps in ((1, 1), (2, case.T), (case.B, 1)):
        state = given.state and tuple(part[..., :rows, :] for part in given.state)
        d_out, *d_last = given.cotangents
        some = d_out[:steps, :rows], *(d[..., :rows, :] for d in d_last)
        plain(model, replace(case, lengths=()), Draw(given.params, given.x[:steps, :rows], state, some))
        with torch.no_grad():
            model(given.x[:steps, :rows])
    return plain(model, case, given)


def _views(model: HyperLSTM, case: Case, given: Draw) -> Results:
    """X and the states are views of larger tensors, whose other numbers are NaN."""

    def inside(value: Tensor) -> tuple[Tensor, Tensor]:
        whole = value.new_full((*value.shape[:-1], 2 * value.shape[-1] + 3), torch.nan)
        view = whole[..., 1 : 1 + 2 * value.shape[-1] : 2]
        view.copy_(value.detach())
        whole.requires_grad_()
        return whole, whole[..., 1 : 1 + 2 * value.shape[-1] : 2]

    leaves = _leaves(model, given)
    wholes = {name: inside(value) for name, value in leaves.items() if not name.startswith("layers")}
    out, last = _call(model, case, {name: view for name, (_, view) in wholes.items()})
    torch.autograd.backward((out, *last), given.cotangents)
    gradients = {
        f"grad {name}": whole.grad[..., 1 : 1 + 2 * view.shape[-1] : 2]
        for name, (whole, view) in wholes.items()
        if whole.grad is not None
    }
    return _results(out, last, dict(model.named_parameters())) | gradients


def _without_gradient(mode: Callable[[], torch.autograd.grad_mode.no_grad]) -> Callable[..., Results]:
    def run(model: HyperLSTM, case: Case, given: Draw) -> Results:
        with mode():
            out, last = _call(model, case, _leaves(model, given))
        return dict(zip(OUTPUTS, (out, *last), strict=True))

    return run


INFERENCE = (
    Use("no_grad", _without_gradient(torch.no_grad), _outputs),
    Use("inference_mode", _without_gradient(torch.inference_mode), _outputs),  # type: ignore[arg-type]
)
#: By group; a group is one test.
USES: dict[str, tuple[Use, ...]] = {
    "frozen": tuple(_frozen()),
    "gradients": (
        _arriving("gradient of out with the batch first", lambda d: d.transpose(0, 1).contiguous().transpose(0, 1)),
        _arriving("gradient of out in every second column", _in_every_second_column),
        _arriving("expanded gradient of out", lambda d: d[:1, :1].expand_as(d), _of_one_row),
        _scaled(1e4),
        _scaled(1e-4),
        _of("gradient of out alone", "out"),
        _of("gradient of the last h alone", "h"),
        _of("gradient of the last c alone", "c"),
        _of("gradient of the last h_hat alone", "h_hat"),
        _of("gradient of the last c_hat alone", "c_hat"),
        Use("backward twice", _twice, _doubled),
    ),
    "calls": (
        Use("batch_first", _batch_first),
        Use("after calls of other sizes", _after_other_sizes),
        Use("views", _views),
        *INFERENCE,
    ),
    "inference": INFERENCE,
}
