"""What all implementations share: dimensions, the parameters, state and inputs of a layer, and its layer norm.

Dims legend, valid in every file of this project:

    T  steps of the sequence       B  batch rows            I  input_size of the layer
    H  hidden_size                 S  hyper_size            Z  n_z
    L  n_layers

Axes of length 4 run over the gates in the order i, f, g, o of `torch.nn.LSTM`; axes of length 3 run over what the
hypernetwork scales or generates: the product with h, the product with x, the bias.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to the variance in every layer norm.
EPS = 1e-5

#: Most rows summed in one product, by device type; the partial sums are then added. This limits rounding error, which
#: grows with the length of a sum. A GPU splits such sums itself.
SUMMED = {"cpu": 256, "cuda": 1 << 62}


class CellNorms(NamedTuple):
    """The layer norms of one of the two LSTMs, with F units; None without layer norm."""

    weight: Tensor | None  # [4, F], for the gates
    bias: Tensor | None  # [4, F]
    c_weight: Tensor | None  # [F], for the cell inside the output's tanh
    c_bias: Tensor | None  # [F]


class LayerParams(NamedTuple):
    """The parameters of one layer. The norms come last: all eight, or none of them with `layer_norm=False`."""

    weight_x: Tensor  # [4, H, I]
    weight_h: Tensor  # [4, H, H]
    bias: Tensor  # [4, H]
    hyper_weight_x: Tensor  # [4, S, I]
    hyper_weight_h: Tensor  # [4, S, H]
    hyper_weight_s: Tensor  # [4, S, S]
    hyper_bias: Tensor  # [4, S]
    z_weight: Tensor  # [3, 4, Z, S]
    z_bias: Tensor  # [2, 4, Z]
    d_weight: Tensor  # [3, 4, H, Z]
    norm_weight: Tensor | None = None  # [4, H]
    norm_bias: Tensor | None = None  # [4, H]
    norm_c_weight: Tensor | None = None  # [H]
    norm_c_bias: Tensor | None = None  # [H]
    hyper_norm_weight: Tensor | None = None  # [4, S]
    hyper_norm_bias: Tensor | None = None  # [4, S]
    hyper_norm_c_weight: Tensor | None = None  # [S]
    hyper_norm_c_bias: Tensor | None = None  # [S]

    def present(self) -> list[Tensor]:
        """The parameters that exist; without layer norm there are no norms."""
        return [q for q in self if q is not None]

    @property
    def norms(self) -> CellNorms:
        """The norms of the main LSTM, [4, H] and [H]."""
        return CellNorms(self.norm_weight, self.norm_bias, self.norm_c_weight, self.norm_c_bias)

    @property
    def hyper_norms(self) -> CellNorms:
        """The norms of the hyper LSTM, [4, S] and [S]."""
        return CellNorms(self.hyper_norm_weight, self.hyper_norm_bias, self.hyper_norm_c_weight, self.hyper_norm_c_bias)


class GateParams(NamedTuple):
    """One gate's part of each parameter of a layer, without the norms."""

    weight_x: Tensor  # [H, I]
    weight_h: Tensor  # [H, H]
    bias: Tensor  # [H]
    hyper_weight_x: Tensor  # [S, I]
    hyper_weight_h: Tensor  # [S, H]
    hyper_weight_s: Tensor  # [S, S]
    hyper_bias: Tensor  # [S]
    z_weight: Sequence[Tensor]  # [Z, S], three times
    z_bias: Sequence[Tensor]  # [Z], twice
    d_weight: Sequence[Tensor]  # [H, Z], three times


def by_gate(p: LayerParams) -> list[GateParams]:
    """The parameters of each gate.

    Taken once for all steps: an index in a loop, `p.weight_h[k]`, makes autograd write a gradient of all four gates
    each time.
    """
    weight_x, weight_h, bias = (q.unbind() for q in (p.weight_x, p.weight_h, p.bias))
    hyper_weight_x, hyper_weight_h = p.hyper_weight_x.unbind(), p.hyper_weight_h.unbind()
    hyper_weight_s, hyper_bias = p.hyper_weight_s.unbind(), p.hyper_bias.unbind()
    z_weight, z_bias, d_weight = (q.unbind(1) for q in (p.z_weight, p.z_bias, p.d_weight))
    return [
        GateParams(
            weight_x=weight_x[k],
            weight_h=weight_h[k],
            bias=bias[k],
            hyper_weight_x=hyper_weight_x[k],
            hyper_weight_h=hyper_weight_h[k],
            hyper_weight_s=hyper_weight_s[k],
            hyper_bias=hyper_bias[k],
            z_weight=z_weight[k].unbind(),
            z_bias=z_bias[k].unbind(),
            d_weight=d_weight[k].unbind(),
        )
        for k in range(4)
    ]


class Role(Enum):
    """What a parameter of a layer does."""

    #: Multiplies x, h or h_hat, for each gate.
    GATE_WEIGHT = auto()
    #: Of the gates, before their norm.
    GATE_BIAS = auto()
    #: Make the embeddings z from h_hat.
    EMBEDDING_WEIGHT = auto()
    EMBEDDING_BIAS = auto()
    #: Makes scales and biases of the main LSTM from the embeddings.
    SCALE_WEIGHT = auto()
    #: Of the layer norms of gates, [4, F], and of cells, [F].
    GATE_NORM_WEIGHT = auto()
    GATE_NORM_BIAS = auto()
    CELL_NORM_WEIGHT = auto()
    CELL_NORM_BIAS = auto()

    @property
    def of_norm(self) -> bool:
        """True for the weight or the bias of a layer norm."""
        return self in (Role.GATE_NORM_WEIGHT, Role.GATE_NORM_BIAS, Role.CELL_NORM_WEIGHT, Role.CELL_NORM_BIAS)

    @property
    def of_bias(self) -> bool:
        """True for what is added."""
        return self in (Role.GATE_BIAS, Role.EMBEDDING_BIAS, Role.GATE_NORM_BIAS, Role.CELL_NORM_BIAS)


#: The role of each parameter of a layer.
ROLES: Mapping[str, Role] = {
    "weight_x": Role.GATE_WEIGHT,
    "weight_h": Role.GATE_WEIGHT,
    "bias": Role.GATE_BIAS,
    "hyper_weight_x": Role.GATE_WEIGHT,
    "hyper_weight_h": Role.GATE_WEIGHT,
    "hyper_weight_s": Role.GATE_WEIGHT,
    "hyper_bias": Role.GATE_BIAS,
    "z_weight": Role.EMBEDDING_WEIGHT,
    "z_bias": Role.EMBEDDING_BIAS,
    "d_weight": Role.SCALE_WEIGHT,
    "norm_weight": Role.GATE_NORM_WEIGHT,
    "norm_bias": Role.GATE_NORM_BIAS,
    "norm_c_weight": Role.CELL_NORM_WEIGHT,
    "norm_c_bias": Role.CELL_NORM_BIAS,
    "hyper_norm_weight": Role.GATE_NORM_WEIGHT,
    "hyper_norm_bias": Role.GATE_NORM_BIAS,
    "hyper_norm_c_weight": Role.CELL_NORM_WEIGHT,
    "hyper_norm_c_bias": Role.CELL_NORM_BIAS,
}
#: Names of the eight norm parameters, in the order of `LayerParams`.
NORM_NAMES = tuple(name for name in LayerParams._fields if ROLES[name].of_norm)


def shapes(I: int, H: int, S: int, Z: int, *, layer_norm: bool) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a layer, in the order of `LayerParams`."""
    by_name: dict[str, tuple[int, ...]] = {
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
    if layer_norm:
        by_name |= {
            "norm_weight": (4, H),
            "norm_bias": (4, H),
            "norm_c_weight": (H,),
            "norm_c_bias": (H,),
            "hyper_norm_weight": (4, S),
            "hyper_norm_bias": (4, S),
            "hyper_norm_c_weight": (S,),
            "hyper_norm_c_bias": (S,),
        }
    return by_name


class LayerState(NamedTuple):
    """The state between two steps of a layer; the cells c and c_hat are not normalised."""

    h: Tensor  # [B, H]
    c: Tensor  # [B, H]
    h_hat: Tensor  # [B, S]
    c_hat: Tensor  # [B, S]


class Mask(NamedTuple):
    """Factors m: `scale` where an element is kept, 0 elsewhere."""

    kept: Tensor  # bool, one byte per element
    scale: float  # 1 / (1 - p)


def cell_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which hand-written implementations carry c and c_hat: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Inputs(NamedTuple):
    """What a layer reads in addition to its parameters.

    With packed sequences, arrays over all steps are [N, *], the tokens of all steps, instead of [T, B, *].
    """

    x: Tensor  # [T, B, I]
    start: LayerState  # [B, *] each
    mask: Mask | None = None  # for g, [T, B, H]: c_t = f c_{t-1} + i (m_t g)
    batch_sizes: Sequence[int] = ()  # with packed sequences: rows of each step, which never rise

    @property
    def rows(self) -> list[int]:
        """Number of rows of each step."""
        return list(self.batch_sizes) or [self.x.shape[1]] * len(self.x)

    @property
    def masks(self) -> Sequence[Mask | None]:
        """The mask of each step, [B, H]; None without a mask."""
        if self.mask is None:
            return [None] * len(self.rows)
        return [Mask(kept, self.mask.scale) for kept in tokens(self.mask.kept).split(self.rows)]


#: An implementation: runs one layer over all steps, at least one -> out [T, B, H] and the final state of each row.
Run = Callable[[LayerParams, Inputs], tuple[Tensor, LayerState]]


def input_weight(p: LayerParams) -> Tensor:
    """Both LSTMs' weights for x, concatenated, [4H + 4S, I]."""
    return torch.cat([p.weight_x.flatten(0, 1), p.hyper_weight_x.flatten(0, 1)])


def hidden_weight(p: LayerParams) -> Tensor:
    """Both LSTMs' weights for h, concatenated, [4H + 4S, H]."""
    return torch.cat([p.weight_h.flatten(0, 1), p.hyper_weight_h.flatten(0, 1)])


def embedding_bias(p: LayerParams) -> Tensor:
    """The bias of all twelve z, [12Z]; zero for z_b."""
    return torch.cat([p.z_bias.flatten(), torch.zeros_like(p.z_bias[0]).flatten()])


Norm = Callable[[Tensor], Tensor]


def norm(weight: Tensor | None, bias: Tensor | None) -> Norm:
    """N, the layer norm over the last axis (paper, A.2.2), or the identity if weight is None.

    weight, bias: [*, F], broadcast against the normalised [..., F].
    """
    if weight is None or bias is None:
        return lambda y: y
    return lambda y: torch.addcmul(bias, F.layer_norm(y, y.shape[-1:], eps=EPS), weight)


def gate_norms(weight: Tensor | None, bias: Tensor | None) -> list[Norm]:
    """N_k for each gate k, with the rows of weight and bias [4, F]."""
    if weight is None or bias is None:
        return [norm(None, None)] * 4
    return [norm(weight[k], bias[k]) for k in range(4)]


def masked(x: Tensor, mask: Mask | None) -> Tensor:
    """The product m x; x itself without a mask."""
    return x if mask is None else x * mask.kept * mask.scale


def steps_of(rows: Sequence[int]) -> list[slice]:
    """Slices of the tokens of each step; rows: number of rows of each step."""
    return [slice(*ends) for ends in pairwise(accumulate(rows, initial=0))]


def tokens(y: Tensor) -> Tensor:
    """Flatten y [T, B, F], or with packed sequences [N, F], to one array over all tokens [N, F]."""
    return y.flatten(0, -2)


def dtype_name(dtype: torch.dtype) -> str:
    """The name without its module, such as `float32`."""
    return str(dtype).removeprefix("torch.")
