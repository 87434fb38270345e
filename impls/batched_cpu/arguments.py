"""What a call of the library reads: the structures of arguments.h, field by field."""

import ctypes
import struct
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from torch import Tensor

from ..definition import LayerParams, LayerState

_INT64, _DOUBLE, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Array(ctypes.Structure):
    """A contiguous array; null and 0 bytes if there is none."""

    _fields_ = (("address", _POINTER), ("bytes", _INT64))


class ParamArrays(ctypes.Structure):
    """Arrays of the parameters, or of their gradients."""

    _fields_ = tuple((name, Array) for name in LayerParams._fields)

    def point_to(self, tensors: Iterable[Tensor | None]) -> None:
        """Set all arrays."""
        _PARAMS.pack_into(self, 0, *_addresses(tensors))


class StateArrays(ctypes.Structure):
    """Arrays of states, or of their gradients."""

    _fields_ = tuple((name, Array) for name in LayerState._fields)


class Arguments(ctypes.Structure):
    """A structure that keeps what its fields point to."""

    kinds: ClassVar[tuple[tuple[str, str], ...]]  # of fields, by name
    packing: ClassVar[struct.Struct]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From a value of each field: a number; for a pointer an `array.array` or None; for an array a tensor or None.

        Tensors are contiguous. A structure of arrays takes a sequence of them.
        """
        numbers = list[Any]()
        for name, kind in cls.kinds:
            value = values[name]
            if kind == "number":
                numbers.append(value)
            elif kind == "arrays":
                numbers += _addresses(value)
            elif kind == "array":
                numbers += _addresses((value,))
            else:
                numbers.append(value.buffer_info()[0] if value else 0)
        arguments = cls.from_buffer_copy(cls.packing.pack(*numbers))  # several times as fast as field by field
        arguments.values = values
        return arguments


def _addresses(tensors: Iterable[Tensor | None]) -> list[int]:
    """Address and bytes of each contiguous tensor: 0 and 0 for None.

    No tensor stands for a missing one: it would be made where this module is imported, which may be a FakeTensorMode.
    """
    numbers = list[int]()
    for q in tensors:
        numbers += (0, 0) if q is None else (q.data_ptr(), q.nbytes)
    return numbers


#: LayerArguments in arguments.h, which explains all fields.
_LAYER: tuple[tuple[str, Any], ...] = (
    *((name, _INT64) for name in ("H", "S", "Z", "I", "groups", "members", "T", "B")),
    ("batch_sizes", _POINTER),
    ("params", ParamArrays),
    ("x", Array),
    ("start", StateArrays),
    ("keep", Array),
    ("scale", _DOUBLE),
    ("states", StateArrays),
    ("residuals", Array),
    ("has_v", _INT64),
)


class ForwardArguments(Arguments):
    """What the forward pass reads."""

    _fields_ = (*_LAYER, ("last", StateArrays))


class BackwardArguments(Arguments):
    """What the backward pass reads."""

    _fields_ = (
        *_LAYER,
        ("needed", _POINTER),
        ("chunks", _INT64),
        ("bounds", _POINTER),
        ("d_out", Array),
        ("d_state", StateArrays),
        ("d_x", Array),
    )


_CODES = {_INT64: "q", _DOUBLE: "d", _POINTER: "P"}
_KINDS = {_INT64: "number", _DOUBLE: "number", _POINTER: "pointer", Array: "array"}


def _packing(kind: Any) -> str:
    """The format by which the module `struct` packs a type."""
    return _CODES.get(kind) or "".join(_packing(field[1]) for field in kind._fields_)


_PARAMS = struct.Struct(_packing(ParamArrays))
for _each in (ForwardArguments, BackwardArguments):
    _each.packing = struct.Struct(_packing(_each))
    _each.kinds = tuple((field[0], _KINDS.get(field[1], "arrays")) for field in _each._fields_)
