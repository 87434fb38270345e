"""The equations of impls/README.md, read from the page, translated into Python and evaluated.

A value is a column for each row of the batch, [B, F, 1], or with gates or sources a dict of these, as `z["h", "f"]`.
A parameter is a dict of matrices [F, *], or of columns [F, 1].
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from impls.definition import LayerState
from suite.package.documents import blocks
from suite.shared.files import ROOT

PAGE = ROOT / "impls" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
Values = dict[str, Any]
Key = tuple[str, ...]  # of a gate, or of a source and a gate


def said(pattern: str) -> tuple[str, ...]:
    """What is in the groups of a pattern, which the page has once."""
    found = [match.groups() for match in re.finditer(pattern, TEXT)]
    assert len(found) == 1, f"impls/README.md has {len(found)} times what it should have once: {pattern}"
    return found[0]


def table(header: str) -> list[list[str]]:
    """The cells of each row of the table whose first line begins with that."""
    rows = TEXT.partition(f"\n| {header} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, f"impls/README.md has no table that begins with {header}"
    return [row.strip("| ").split(" | ") for row in rows]


def codes(cell: str) -> list[str]:
    return re.findall("`(.*?)`", cell)


FORWARD, BACKWARD, NORM = (list(filter(None, block.content.splitlines())) for block in blocks(PAGE, "text"))
GATES, SOURCES = (said(f"{name} are in the order `(.*?)`")[0].split(", ") for name in ("Gates", "Sources"))
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
    return f"{name!r}, ({_key(indices or '')}), {name}" + (f"[{indices}]" if indices else "_t")


@cache
def translated(formula: str, name: str, indices: str | None) -> CodeType:
    """Python of a formula, in which N' belongs to the number whose gradient is defined: of y[f] in a line of dy[f]."""
    formula = _replaced(formula, ACTIVATED + NAMES)
    formula = re.sub(r"\bN (\w+?)(?:_t\b|\[(.*?)\])", lambda found: f"N({_normed(*found.groups())})", formula)
    formula = formula.replace("N'(", f"N_backward({_normed(name[1:], indices)}, ")
    formula = re.sub(r"\[(.*?)\]", lambda found: f"[{_key(found[1])}]", formula)
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
    found = re.fullmatch(rf" *([^][+=]+?) *(?:\[(.*?)\]|(\+))? *= (.*?){REMARK}", line)
    assert found, "it should be NAME = FORMULA"
    name, indices, more, formula, sources = found.groups()
    name = _replaced(name, NAMES)
    code = translated(formula, name, indices)
    if indices is None:
        value = eval(code, values)
        values[name] = values[name] + value if more else value
        return
    letters = re.findall(r"\w+", indices)
    domains = {"k": GATES, "s": sources.split(", ") if sources else SOURCES}
    for key in product(*(domains.get(letter, [letter]) for letter in letters)):
        value = eval(code, values | dict(zip(letters, key, strict=True)))
        values[name] = {**values.get(name, {}), key: value}


def spelled_out(lines: Sequence[str]) -> Iterator[str]:
    """The lines, with six of them under other names in place of the line that says so."""
    for n, line in enumerate(lines):
        if (found := SAME.fullmatch(line)) is None:
            yield line
            continue
        new, read, old, was_read = (re.split(", | and ", names) for names in found.groups())
        names = {"m_t": "1", **dict(zip(old + was_read, new + read, strict=True))}
        six = [one for one in lines[:n] if re.match(rf" *({'|'.join(old)})\b", one)]
        assert len(six) == 6, f"impls/README.md has {len(six)} lines instead of six: {line.strip()}"
        renamed = [(rf"\b{name}(?=\b|_t|_\{{)", other) for name, other in names.items()]
        yield from (_replaced(one, [*ACTIVATED, *renamed]) for one in six)


def mean(q: Tensor) -> Tensor:
    return q.mean(-2, keepdim=True)


def std(q: Tensor) -> Tensor:
    return (mean((q - mean(q)) ** 2) + EPS).sqrt()


def by_index(value: Tensor) -> dict[Key, Tensor]:
    """A parameter as the equations index it, if no other size is as small as the number of gates."""
    counts = [n for n in value.shape if n <= len(GATES)]
    keys = product(*(GATES if n == len(GATES) else SOURCES[:n] for n in counts))
    return dict(zip(keys, value.reshape(-1, *(*value.shape[len(counts) :], 1)[:2]), strict=True))


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
        state, steps = [value[..., None] for value in start], list[Values]()
        for x_t, m_t in zip(x[..., None], factors[..., None], strict=True):
            read = dict(zip((f"{name}_before" for name in start._fields), state, strict=True))
            steps.append(assigned(FORWARD, {**self._names, **read, "x_t": x_t, "m_t": m_t}))
            state = [steps[-1][f"{name}_t"] for name in start._fields]
        return steps

    def backward(self, steps: Sequence[Values], d_out: Tensor, d_last: LayerState) -> dict[str, Tensor]:
        """Gradients of the parameters, by name and key such as `z_bias h f`, of x and of the initial state."""
        loop, *lines = BACKWARD
        assert loop == "for t from T-1 down to 0:", f"impls/README.md has a line that is not understood: {loop}"
        terms = [pair for row in table("gradient of") for pair in zip(*map(codes, row), strict=True)]
        lines = [*spelled_out(lines), *(f"sum {name} = {term}" for name, term in terms), said("`(dx_t = .*?)`")[0]]
        carried = {f"d{name}": value[..., None] for name, value in d_last._asdict().items()}
        d_x = list[Tensor]()
        for values, d_out_t in zip(reversed(steps), reversed(d_out[..., None]), strict=True):
            values = assigned(lines, {**values, **carried, "d_out_t": d_out_t})
            carried = {name: values[name] for name in carried}
            d_x.insert(0, values["dx_t"])
            for name, parts in self._parameters.items():
                for key in parts.keys() & values.get(f"sum {name}", {}).keys():
                    self._sums[name, key] += values[f"sum {name}"][key].sum(0)
        numbers = {"dx": torch.stack(d_x), **carried}
        gradients = {" ".join((name, *key)): value for (name, key), value in self._sums.items()}
        return gradients | {name: value[..., 0] for name, value in numbers.items()}

    def _norm(self, name: str, key: Key, q: Tensor) -> Any:
        values = self._of_norm(name, key, q)
        return assigned([said("`(N q = .*?)`")[0]], values)["N q"] if values else q

    def _norm_backward(self, name: str, key: Key, q: Tensor, g: Tensor) -> Any:
        if not (values := self._of_norm(name, key, q)):
            return g
        values = assigned(NORM, {**values, "g": g})
        for kind in ("weight", "bias"):
            self._sums[f"{NORMS[name]}_{kind}", key] += values[f"d {kind}"]
        return values["N'(g)"]

    def _of_norm(self, name: str, key: Key, q: Tensor) -> Values:
        """What the equations of N read; nothing without layer norm."""
        if f"{NORMS[name]}_weight" not in self._parameters:
            return {}
        own = {kind: self._parameters[f"{NORMS[name]}_{kind}"][key] for kind in ("weight", "bias")}
        return {**own, "q": q, "q_hat": (q - mean(q)) / std(q), "mean": mean, "std": std}
