"""A client's state as content: a record, and large pieces that other states may share.

Each piece is named by its SHA-256. A stack of prompts (three dimensions or more) is divided into
its rows, so that an expert which many clients hold is the same piece for all of them, and also the
same as its owner's own prompt. Small arrays are in the record itself, a safetensors file whose
metadata say which pieces make up the others.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pfedmoap.storage.atomic_files import parse_json
from pfedmoap.wire.messages import Arrays

Digest = bytes
"""SHA-256 of a piece, 32 bytes."""

Piece = bytes | memoryview

PIECE_BYTES = 1024
"""Smaller arrays and rows are not divided off: naming them would take as much as they do."""

_KEY = "large"
_HEADER_BYTES = 8


@dataclass(frozen=True)
class Content:
    """One state.

    Attributes:
        record: Its small arrays, and what the others are made of.
        pieces: The large pieces, each once, in the order of the arrays' names.
    """

    record: bytes
    pieces: Mapping[Digest, Piece]


def digest_of(content: Piece) -> Digest:
    """Name a piece."""
    return hashlib.sha256(content).digest()


def to_content(arrays: Arrays) -> Content:
    """Divide a state into its record and its pieces.

    Args:
        arrays: Named tensors of any shape and dtype, on any device.
    """
    small: dict[str, Tensor] = {}
    large: dict[str, Any] = {}  # JSON
    pieces: dict[Digest, Piece] = {}
    for name, given in sorted(arrays.items()):
        array = given.detach().cpu().contiguous()
        size = array.numel() * array.element_size()
        if size < PIECE_BYTES:
            small[name] = array
            continue
        content = array.view(-1).view(torch.uint8).numpy().data
        rows = len(array) if array.dim() >= 3 and size // len(array) >= PIECE_BYTES else 1
        step, names = size // rows, []
        for begin in range(0, size, step):
            piece = content[begin : begin + step]
            digest = digest_of(piece)
            pieces.setdefault(digest, piece)
            names.append(digest.hex())
        large[name] = [str(array.dtype).removeprefix("torch."), list(array.shape), names]
    return Content(save(small, metadata={_KEY: json.dumps(large)}), pieces)


def pieces_of(record: bytes) -> tuple[Digest, ...]:
    """Names of the pieces of a record, each once.

    Raises:
        ValueError: The record is damaged.
    """
    large = _large(record)
    return tuple(dict.fromkeys(bytes.fromhex(n) for _, _, names in large.values() for n in names))


def from_content(record: bytes, pieces: Mapping[Digest, bytes]) -> dict[str, Tensor]:
    """Put a state together.

    Args:
        record: Its record.
        pieces: At least the pieces that the record names.

    Raises:
        ValueError: The record is damaged.
    """
    try:
        arrays: dict[str, Tensor] = load(record)
    except SafetensorError as error:
        raise ValueError(f"its record is no whole safetensors file ({error})") from error
    for name, (dtype, shape, names) in _large(record).items():
        kind = getattr(torch, str(dtype), None)
        content = bytearray().join(pieces[bytes.fromhex(piece)] for piece in names)
        if not isinstance(kind, torch.dtype) or prod(shape) * kind.itemsize != len(content):
            raise ValueError(f"{name} is {dtype} of shape {shape}, with {len(content)} bytes")
        arrays[name] = torch.frombuffer(content, dtype=kind).view(shape)
    return arrays


def _large(record: bytes) -> dict[str, Any]:  # JSON
    size = int.from_bytes(record[:_HEADER_BYTES], "little")
    header = parse_json(record[_HEADER_BYTES : _HEADER_BYTES + size])
    found: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    return found
