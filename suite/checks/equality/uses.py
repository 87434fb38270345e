"""Uses whose results follow from those of a plain call: what trains, what gradients arrive, how a model is called.

The expected results are those of the oracle, which is called in the plain way.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from impls import HyperLSTM
from impls.definition import LayerParams
from impls.gradient.chunks import NUMBERS, limited
from suite.shared.cases import Case
from suite.shared.oracle import OUTPUTS, Draw, Numbers, Results, Run, arguments, gradients, outputs, plain


class Use(NamedTuple):
    """A use of a model; name: in a failure."""

    name: str
    run: Run
    #: What they should be, from the results of a plain call on `numbers`.
    expected: Callable[[Results], Results] = dict
    numbers: Numbers | None = None
    #: A parameter without which there is nothing to check.
    parameter: str = "weight_h"
    #: Whether the model and its inputs are in float32, which autocast casts to the dtype of the comparison.
    autocast: bool = False


def _outputs(results: Results) -> Results:
    return {name: results[name] for name in OUTPUTS}


# What requires a gradient


def _training(name: str, select: Callable[[str], bool], parameter: str = "weight_h") -> Use:
    """Only leaves of some names require a gradient."""

    def expected(results: Results) -> Results:
        return {n: v for n, v in results.items() if not n.startswith("grad ") or select(n.removeprefix("grad "))}

    return Use(name, partial(plain, select=select), expected, parameter=parameter)


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


def _scaled(factor: float) -> Use:
    """Each gradient of the outputs is multiplied by a factor."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        return plain(model, case, sample._replace(cotangents=tuple(factor * d for d in sample.cotangents)))

    return Use(f"gradients times {factor:g}", run, partial(_times, factor))


def _times(factor: float, results: Results) -> Results:
    return {name: value * factor if name.startswith("grad ") else value for name, value in results.items()}


def without_others(sample: Draw, arriving: Collection[str]) -> Draw:
    """Leave some of the outputs' gradients, and make the others zero."""
    cotangents = zip(OUTPUTS, sample.cotangents, strict=True)
    return sample._replace(cotangents=tuple(d if n in arriving else torch.zeros_like(d) for n, d in cotangents))


def _backward_twice(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    leaves = arguments(model, sample)
    results = outputs(model, case, leaves)
    for retain_graph in (True, False):
        torch.autograd.backward(list(results.values()), sample.cotangents, retain_graph=retain_graph)
    return results | gradients(leaves)


# Calls


def _batch_first(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    model.batch_first = True
    d_out, *d_last = sample.cotangents
    turned = sample._replace(x=sample.x.transpose(0, 1).contiguous(), cotangents=(d_out.transpose(0, 1), *d_last))
    # The call below does not look at lengths, which a packed sequence brings along.
    results = plain(model, replace(case, lengths=()), turned)
    model.batch_first = False
    return results | {name: results[name].transpose(0, 1) for name in ("out", "grad x")}


def _after_other_sizes(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """The call repeated, with calls of other sizes in between, of which one has no gradient."""
    plain(model, case, sample)
    for rows, steps in ((1, 1), (2, case.T), (case.B, 1)):
        state = sample.state and tuple(part[..., :rows, :] for part in sample.state)
        d_out, *d_last = sample.cotangents
        some = d_out[:steps, :rows], *(d[..., :rows, :] for d in d_last)
        plain(model, replace(case, lengths=()), Draw(sample.params, sample.x[:steps, :rows], state, some))
        with torch.no_grad():
            model(sample.x[:steps, :rows])
    return plain(model, case, sample)


def _without_gradient(mode: Callable[[], AbstractContextManager[object]]) -> Run:
    def run(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        with mode():
            return outputs(model, case, arguments(model, sample))

    return run


def _in_chunks(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """Without a gradient, in chunks of two and three steps, the shorter ones first."""
    three_steps = 3 * NUMBERS * case.B * case.H * sample.x.element_size()
    with limited(sample.x.device.type, forward=three_steps), torch.no_grad():
        return outputs(model, case, arguments(model, sample))


PLAIN = Use("", plain)
INFERENCE = (
    Use("no_grad", _without_gradient(torch.no_grad), _outputs),
    Use("inference_mode", _without_gradient(torch.inference_mode), _outputs),
    Use("no_grad in chunks", _in_chunks, _outputs),
)
#: By group; a group is one test.
USES: dict[str, tuple[Use, ...]] = {
    "frozen": tuple(_frozen()),
    "gradients": (
        _scaled(1e4),
        _scaled(1e-4),
        Use("backward twice", _backward_twice, partial(_times, 2)),
    ),
    "calls": (
        Use("batch_first", _batch_first),
        Use("after calls of other sizes", _after_other_sizes),
        *INFERENCE,
    ),
    "inference": INFERENCE,
}
