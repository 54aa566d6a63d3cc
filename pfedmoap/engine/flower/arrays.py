"""Named tensors as Flower's records: raw bytes with a type and a shape, checked before use.

Flower's own arrays are NumPy files, which a reader has to parse. Ours are bytes and nothing else:
an array is the ``dtype`` and ``shape`` that its record states, in C order and little-endian.
"""

import math
import sys
from collections.abc import Mapping
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.wire.messages import Arrays

MOST_BYTES = 2**30
"""What a site accepts in one download; Flower itself ends at 2 GiB."""
MOST_ARRAYS = 10_000
_MOST_SIDES = 8
_FORM = "pfedmoap"  # followed by the dtype that the array has once it has arrived
_DTYPES = {
    name: dtype
    for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")
    if isinstance(dtype := getattr(torch, name), torch.dtype)
}


def to_record(arrays: Arrays, wire: Literal["float32", "float16"] = "float32") -> ArrayRecord:
    """Write named tensors as a record.

    Args:
        arrays: The tensors.
        wire: Number format of float32 arrays on the wire; they are float32 again on arrival.

    Returns:
        A record with one entry a tensor.

    Raises:
        UpdateRejectedError: A tensor has a type that has no form on the wire.
    """
    record = ArrayRecord()
    for name, array in arrays.items():
        arrives = _name(array.dtype)
        sent = array.detach().cpu()
        if sent.dtype == torch.float32:
            sent = sent.to(_DTYPES[wire])
        raw = sent.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        record[name] = Array(_name(sent.dtype), tuple(sent.shape), f"{_FORM}.{arrives}", raw)
    return record


def from_record(
    record: ArrayRecord, expected: Mapping[str, ArraySpec] | None = None, most: int = MOST_BYTES
) -> dict[str, Tensor]:
    """Read named tensors from a record that another machine made.

    Nothing is allocated before names, types, shapes and numbers of bytes were found to agree.

    Args:
        record: The record.
        expected: The only arrays that it may hold, with the most that each may measure.
        most: Most bytes of all arrays together.

    Returns:
        Tensors in memory of their own.

    Raises:
        UpdateRejectedError: It is not what `to_record` writes, or is larger than it may be.
    """
    if len(record) > MOST_ARRAYS:
        raise UpdateRejectedError(f"a message holds {len(record)} arrays, at most {MOST_ARRAYS}")
    if expected is not None and set(record) != set(expected):
        raise UpdateRejectedError(
            f"a message holds the arrays {sorted(record)!s:.200}, expected {sorted(expected)}"
        )
    size = sum(len(array.data) for array in record.values())
    if size > most:
        raise UpdateRejectedError(f"a message holds {size} bytes of arrays, at most {most}")
    return {
        name: _read(name, array, None if expected is None else expected[name])
        for name, array in record.items()
    }


def most_bytes(expected: Mapping[str, ArraySpec]) -> int:
    """The most bytes that uploads of these forms can measure."""
    return sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in expected.values())


def _read(name: str, array: Array, spec: ArraySpec | None) -> Tensor:
    what = f"array {name!r:.100}"
    form, _, arrives = str(array.stype).partition(".")
    if form != _FORM or arrives not in _DTYPES or array.dtype not in _DTYPES:
        raise UpdateRejectedError(
            f"{what} has type {array.dtype!r:.40} in form {array.stype!r:.40}, expected one of "
            f"{', '.join(_DTYPES)} in form '{_FORM}.<type>'"
        )
    if arrives != array.dtype and (arrives, array.dtype) != ("float32", "float16"):
        raise UpdateRejectedError(f"{what} was {array.dtype} on the wire and shall be {arrives}")
    shape = tuple(array.shape)
    if len(shape) > _MOST_SIDES or not all(type(side) is int and side >= 0 for side in shape):
        raise UpdateRejectedError(f"{what} has shape {shape!r:.80}")
    if spec is not None and not spec.admits(shape):
        raise UpdateRejectedError(f"{what} has shape {shape}, expected {spec.shape}")
    dtype = _DTYPES[array.dtype]
    if math.prod(shape) * dtype.itemsize != len(array.data):
        raise UpdateRejectedError(
            f"{what} of shape {shape} and type {array.dtype} has {len(array.data)} bytes, "
            f"expected {math.prod(shape) * dtype.itemsize}"
        )
    if not array.data:
        return torch.zeros(shape, dtype=_DTYPES[arrives])
    raw = torch.frombuffer(bytearray(array.data), dtype=torch.uint8)
    if dtype is torch.bool:  # other values than 0 and 1 would be no booleans
        raw = raw != 0
    return raw.view(dtype).reshape(shape).to(_DTYPES[arrives])


def _name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES or sys.byteorder != "little":
        raise UpdateRejectedError(
            f"tensors of type {name} cannot be sent from a {sys.byteorder}-endian machine; there "
            f"are {', '.join(_DTYPES)}, from little-endian ones"
        )
    return name
