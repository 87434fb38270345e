"""The equations of impls/README.md, read from the page, translated into Python and evaluated.

A value is a column for each row of the batch, [B, F, 1], or with gates or sources a dict of these, as `z["h", "f"]`.
A parameter is a dict of matrices [F, *], or of columns [F, 1].
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from impls.definition import LayerState
from suite.package import documents
from suite.package.documents import IMPLS, blocks, codes, table

said = partial(documents.said, IMPLS)
Values = dict[str, Any]
Key = tuple[str, ...]  # of a gate, or of a source and a gate


FORWARD, BACKWARD, NORM = ([line for line in block.content.splitlines() if line] for block in blocks(IMPLS, "text"))
GATES = said("Gates are in the order `(.*?)`")[0].split(", ")
SOURCES = said("Sources are in the order `(.*?)`")[0].split(", ")
EPS = float(said(r"eps = ([\d.e-]+)")[0])
#: The line that stands for six others with other names.
SAME = re.compile(r" *(.+) from (.+?)  +by the six lines that gave (.+) from (.+), with m_t = 1")
REMARK = r"(?:  +(?:for s = (.*)|now of [cĉ]_\{t-1\}))?"
#: Parameters of N, by what it is of.
NORMS = {"y": "norm", "c": "norm_c", "a": "hyper_norm", "c_hat": "hyper_norm_c"}
#: Notation and the Python for it, in this order. A space between two operands is a product of matrices.
ACTIVATED = ((r"\b([ifo])'", r"sigmoid(N y[\1])"), (r"\bg'", "tanh(N y[g])"))
NAMES = (("ĥ", "h_hat"), ("ĉ", "c_hat"), ("q̂", "q_hat"), (r"_\{t-1\}", "_before"))
OPERATORS = (
    (r"\N{GREEK SMALL LETTER SIGMA}", "sigmoid"),
    (r"tanh²\(", "tanh_squared("),
    ("²", "**2"),
    ("ᵀ", ".mT"),
    (r"(?<!Σ)(?<!Σ_k)(?<=[\w)\]]) (?=[\w(])", " @ "),
    (r"Σ_k (.*)", r"sum(\1 for k in GATES)"),
    (r"Σ_\{s,k\} (.*)", r"sum(\1 for s in SOURCES for k in GATES)"),
    (r"Σ (.*)", r"(\1).sum(0)"),  # over rows
)


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for notation, python in pairs:
        text = re.sub(notation, python, text)
    return text


def _key(indices: str) -> str:
    """Python of a key, from the variables k and s and letters of gates and sources."""
    letters = re.findall(r"\w+", indices)
    return "".join(f"{letter}, " if letter in ("k", "s") else f"{letter!r}, " for letter in letters)


def _normed(name: str, indices: str | None) -> str:
    """Arguments of N: the name and key of a gate, or of a cell, which has none, and its number."""
    key = _key(indices or "")
    number = f"{name}[{indices}]" if indices else f"{name}_t"
    return f"{name!r}, ({key}), {number}"


@cache
def translated(formula: str, name: str, indices: str | None) -> CodeType:
    """Python of a formula, in which N' belongs to the number whose gradient is defined: of y[f] in a line of dy[f]."""
    formula = _replaced(formula, ACTIVATED + NAMES)
    formula = re.sub(r"\bN (\w+?)(?:_t\b|\[(.*?)\])", lambda match: f"N({_normed(*match.groups())})", formula)
    formula = formula.replace("N'(", f"N_backward({_normed(name[1:], indices)}, ")
    formula = re.sub(r"\[(.*?)\]", lambda match: f"[{_key(match[1])}]", formula)
    return compile(_replaced(formula, OPERATORS), "impls/README.md", "eval")


def assigned(lines: Sequence[str], values: Values) -> Values:
    """The values and what lines define, for all k and s; ValueError shows a line that is not understood."""
    values = {**values}
    for line in lines:
        try:
            _assign(line, values)
        except Exception as error:
            raise ValueError(f"impls/README.md has a line that is not understood: {line.strip()} ({error})") from error
    return values


def _assign(line: str, values: Values) -> None:
    match = re.fullmatch(rf" *([^][+=]+?) *(?:\[(.*?)\]|(\+))? *= (.*?){REMARK}", line)
    assert match, "it should be NAME = FORMULA"
    name, indices, more, formula, sources = match.groups()
    name = _replaced(name, NAMES)
    code = translated(formula, name, indices)
    if indices is None:
        value = eval(code, values)
        values[name] = values[name] + value if more else value
        return
    letters = re.findall(r"\w+", indices)
    domains = {"k": GATES, "s": sources.split(", ") if sources else SOURCES}
    choices = [domains.get(letter, [letter]) for letter in letters]
    for key in product(*choices):
        value = eval(code, values | dict(zip(letters, key, strict=True)))
        values[name] = {**values.get(name, {}), key: value}


def spelled_out(lines: Sequence[str]) -> Iterator[str]:
    """The lines, with six of them under other names in place of the line that says so."""
    for n, line in enumerate(lines):
        match = SAME.fullmatch(line)
        if match is None:
            yield line
            continue
        new, read, old, was_read = (re.split(", | and ", names) for names in match.groups())
        names = {"m_t": "1"}
        names.update(zip(old + was_read, new + read, strict=True))
        defines_old = re.compile(rf" *({'|'.join(old)})\b")
        six = [earlier for earlier in lines[:n] if defines_old.match(earlier)]
        assert len(six) == 6, f"impls/README.md has {len(six)} lines instead of six: {line.strip()}"
        renamed = [(rf"\b{name}(?=\b|_t|_\{{)", other) for name, other in names.items()]
        for earlier in six:
            yield _replaced(earlier, [*ACTIVATED, *renamed])


def mean(q: Tensor) -> Tensor:
    return q.mean(-2, keepdim=True)


def std(q: Tensor) -> Tensor:
    return (mean((q - mean(q)) ** 2) + EPS).sqrt()


def by_index(value: Tensor) -> dict[Key, Tensor]:
    """A parameter as the equations index it, if no other size is as small as the number of gates."""
    counts = [n for n in value.shape if n <= len(GATES)]
    letters = [GATES if n == len(GATES) else SOURCES[:n] for n in counts]
    rows, columns, *_ = (*value.shape[len(counts) :], 1)
    parts = value.reshape(-1, rows, columns)
    return dict(zip(product(*letters), parts, strict=True))


class Layer:
    """A layer as the equations compute it, with its gradient."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = {name: by_index(value) for name, value in parameters.items()}
        self._sums = defaultdict[tuple[str, Key], Any](float)
        functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "tanh_squared": lambda q: torch.tanh(q) ** 2}
        norms = {"N": self._norm, "N_backward": self._norm_backward}
        self._names = {**self._parameters, **functions, **norms, "GATES": GATES, "SOURCES": SOURCES}

    def forward(self, x: Tensor, start: LayerState, factors: Tensor) -> list[Values]:
        """The values of each step; factors: m."""
        steps: list[Values] = []
        state = {f"{name}_before": value[..., None] for name, value in start._asdict().items()}
        for x_t, m_t in zip(x[..., None], factors[..., None], strict=True):
            values = assigned(FORWARD, {**self._names, **state, "x_t": x_t, "m_t": m_t})
            state = {f"{name}_before": values[f"{name}_t"] for name in start._fields}
            steps.append(values)
        return steps

    def backward(self, steps: Sequence[Values], d_out: Tensor, d_last: LayerState) -> dict[str, Tensor]:
        """Gradients of the parameters, by name and key such as `z_bias h f`, of x and of the initial state."""
        loop, *lines = BACKWARD
        assert loop == "for t from T-1 down to 0:", f"impls/README.md has a line that is not understood: {loop}"
        lines = list(spelled_out(lines))
        for parameters, terms in table(IMPLS, "gradient of"):
            for name, term in zip(codes(parameters), codes(terms), strict=True):
                lines.append(f"sum {name} = {term}")
        lines += said("`(dx_t = .*?)`")
        carried = {f"d{name}": value[..., None] for name, value in d_last._asdict().items()}
        d_x = list[Tensor]()
        for values, d_out_t in zip(reversed(steps), reversed(d_out[..., None]), strict=True):
            values = assigned(lines, {**values, **carried, "d_out_t": d_out_t})
            carried = {name: values[name] for name in carried}
            d_x.insert(0, values["dx_t"])
            for name, parts in self._parameters.items():
                sums = values.get(f"sum {name}", {})
                for key in parts.keys() & sums.keys():
                    self._sums[name, key] += sums[key].sum(0)
        numbers = {"dx": torch.stack(d_x), **carried}
        gradients = {" ".join((name, *key)): value for (name, key), value in self._sums.items()}
        return gradients | {name: value[..., 0] for name, value in numbers.items()}

    def _norm(self, name: str, key: Key, q: Tensor) -> Any:
        values = self._of_norm(name, key, q)
        return assigned(said("`(N q = .*?)`"), values)["N q"] if values else q

    def _norm_backward(self, name: str, key: Key, q: Tensor, g: Tensor) -> Any:
        values = self._of_norm(name, key, q)
        if not values:
            return g
        values = assigned(NORM, {**values, "g": g})
        for kind in ("weight", "bias"):
            self._sums[f"{NORMS[name]}_{kind}", key] += values[f"d {kind}"]
        return values["N'(g)"]

    def _of_norm(self, name: str, key: Key, q: Tensor) -> Values:
        """What the equations of N read; nothing without layer norm."""
        norm = NORMS[name]
        if f"{norm}_weight" not in self._parameters:
            return {}
        weight = self._parameters[f"{norm}_weight"][key]
        bias = self._parameters[f"{norm}_bias"][key]
        q_hat = (q - mean(q)) / std(q)
        return {"weight": weight, "bias": bias, "q": q, "q_hat": q_hat, "mean": mean, "std": std}
