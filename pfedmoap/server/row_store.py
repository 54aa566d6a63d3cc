"""Flat prompts in large blocks of memory or of a file, as they came or in 16 bits a number.

In 16 bits, each prompt has an exponent of its own, so that prompts of any size keep their accuracy:
a number x of a prompt whose largest is m becomes one that is off by at most
``2**-11 * abs(x) + 2**-39 * m``. A distance between two such prompts is therefore off by at most
about ``2**-11`` of the sum of their lengths; what is compared, served and stored is the rounded
prompt, so that all parts of the pool agree.

In a file, pages that are seldom read need no memory. The file has no name: it is gone with the
process, and its room is reserved before it is used.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfedmoap.errors import PFedMoAPError

SEGMENT_BYTES = 256 * 2**20
BLOCK_NUMBERS = 2**19
"""Numbers that are worked on at once: in float64 they fit into a cache."""

_FIRST_CAPACITY = 16
_TOP = 15  # the largest number of a prompt lies between 2**14 and 2**15: a half holds up to 2**16
_MODERATE = 80
_LEAST, _MOST = -1000, 1000  # exponents whose powers of two are float64, with room


class Rows(Protocol):
    """n vectors (n, d), of which some are read at a time; a tensor is one, too."""

    def __len__(self) -> int:
        """Return n."""
        ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        """Return some rows, (m, d); nobody may write to them."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...


@dataclass(frozen=True)
class Packed:
    """Prompts as they are kept.

    Attributes:
        values: (m, d), halves where there are exponents.
        exponents: Of the power of two that a row is to be multiplied with, (m,) int16; ``None``
            where rows are as they came.
    """

    values: Tensor
    exponents: Tensor | None = None

    @classmethod
    def of(cls, vectors: Tensor, *, half: bool) -> "Packed":
        """Pack vectors (m, d), finite."""
        if not half:
            return cls(vectors)
        largest = vectors.abs().amax(dim=1) if vectors.numel() else vectors[:, :0].sum(1)
        exponents = (torch.frexp(largest.double()).exponent - _TOP).clamp(_LEAST, _MOST)
        exponents[largest == 0] = 0
        kind = _kind(exponents, vectors.dtype)
        scales = torch.exp2(-exponents.double()).to(kind)
        return cls((vectors.to(kind) * scales[:, None]).half(), exponents.to(torch.int16))

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        """The vectors, (m, d)."""
        if self.exponents is None:
            return self.values
        kind = _kind(self.exponents, dtype)
        scales = torch.exp2(self.exponents.double()).to(kind)
        return self.values.to(kind).mul_(scales[:, None]).to(dtype)


def _kind(exponents: Tensor, dtype: torch.dtype) -> torch.dtype:
    """In which numbers a product with these powers of two is exact: float32 where it can be."""
    moderate = not len(exponents) or int(exponents.abs().max()) <= _MODERATE
    return torch.float32 if moderate and dtype == torch.float32 else torch.float64


class RowStore:
    """Rows that are overwritten in place and that grow without being copied.

    Args:
        width: Numbers of a row.
        dtype: What rows are given and read as, floating-point.
        half: Whether they are kept in 16 bits.
        mapped: Whether they lie in a file.
    """

    def __init__(
        self, width: int, dtype: torch.dtype, *, half: bool = False, mapped: bool = False
    ) -> None:
        self.width, self.dtype, self.mapped = width, dtype, mapped
        self.half = half and dtype.itemsize > torch.float16.itemsize
        self._kept = torch.float16 if self.half else dtype
        self._each = max(_FIRST_CAPACITY, SEGMENT_BYTES // max(1, width * self._kept.itemsize))
        self._segments: list[Tensor] = []
        self._exponents = torch.zeros(0, dtype=torch.int16)

    @property
    def capacity(self) -> int:
        """Rows that there is room for."""
        return sum(map(len, self._segments))

    def reserve(self, count: int) -> None:
        """Make room for so many rows.

        Raises:
            PFedMoAPError: The file system has no room for them.
        """
        if len(self._segments) < 2 and self.capacity < min(count, self._each):
            room = min(self._each, max(count, 2 * self.capacity, _FIRST_CAPACITY))
            grown = self._segment(room)
            for before in self._segments:
                grown[: len(before)] = before
            self._segments = [grown]
        while self.capacity < count:
            self._segments.append(self._segment(self._each))
        if self.half and len(self._exponents) < count:
            grown = self._exponents.new_zeros(max(count, 2 * len(self._exponents)))
            grown[: len(self._exponents)] = self._exponents
            self._exponents = grown

    def write(self, rows: Tensor, packed: Packed) -> None:
        """Overwrite rows (m,) for which there is room."""
        if packed.exponents is not None:
            self._exponents[rows] = packed.exponents
        for segment, there, within in self._divided(rows):
            segment[within] = packed.values if len(there) == len(rows) else packed.values[there]

    def packed(self, rows: Tensor) -> Packed:
        """Copy rows (m,) as they are kept."""
        parts = self._divided(rows)
        if len(parts) == 1:
            found = parts[0][0][parts[0][2]]
        else:
            found = torch.empty(len(rows), self.width, dtype=self._kept)
            for segment, there, within in parts:
                found[there] = segment[within]
        return Packed(found, self._exponents[rows] if self.half else None)

    def between(self, begin: int, end: int) -> Packed:
        """The rows from one to before another, without a copy where they lie in one segment."""
        parts = []
        for number in range(begin // self._each, -(-end // self._each)):
            first = number * self._each
            parts.append(self._segments[number][max(0, begin - first) : end - first])
        nothing = torch.empty(0, self.width, dtype=self._kept)
        values = parts[0] if len(parts) == 1 else torch.cat([nothing, *parts])
        return Packed(values, self._exponents[begin:end] if self.half else None)

    def _divided(self, rows: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """By segment: the segment, which of the given rows lie in it, and where."""
        if len(self._segments) == 1:
            return [(self._segments[0], torch.arange(len(rows)), rows)]
        numbers, within = rows // self._each, rows % self._each
        found = []
        for number in numbers.unique().tolist():
            there = (numbers == number).nonzero().flatten()
            found.append((self._segments[number], there, within[there]))
        return found

    def _segment(self, rows: int) -> Tensor:
        if not self.mapped or not rows * self.width:
            return torch.empty(rows, self.width, dtype=self._kept)
        length = rows * self.width * self._kept.itemsize
        with tempfile.TemporaryFile() as file:
            try:
                reserve_room(file.fileno(), length)
            except OSError as error:
                raise PFedMoAPError(
                    f"no room for {length:,} bytes of the pool's rows in {tempfile.gettempdir()} "
                    f"({error.strerror}): set TMPDIR to a folder on a larger disk, or pool.rows "
                    "memory"
                ) from error
            mapped = mmap.mmap(file.fileno(), length)
        return torch.frombuffer(mapped, dtype=self._kept).view(rows, self.width)


def reserve_room(file: int, length: int) -> None:
    """Give a file its length, and its blocks where the system can: writing never fails later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, length)
    else:
        os.truncate(file, length)


@dataclass(frozen=True)
class StoredRows:
    """The first n rows of a store, unpacked when they are read.

    Attributes:
        store: The store; what is read is what it holds then.
        count: The number n.
    """

    store: RowStore
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return (self.count, self.store.width)

    @property
    def dtype(self) -> torch.dtype:
        """Of what is read."""
        return self.store.dtype

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, slice):
            begin, end, step = rows.indices(self.count)
            if step == 1:
                return self.store.between(begin, max(begin, end)).unpacked(self.dtype)
            rows = torch.arange(begin, end, step)
        return self.store.packed(rows).unpacked(self.dtype)


def blocks(rows: Rows, numbers: int = BLOCK_NUMBERS) -> Iterator[slice]:
    """Divide rows into blocks of so many numbers, at least one row each."""
    step = max(1, numbers // max(1, rows.shape[1]))
    return (slice(begin, min(begin + step, len(rows))) for begin in range(0, len(rows), step))


def largest_of(rows: Rows) -> float:
    """Largest absolute value; 0 where there is none."""
    if not len(rows) or not rows.shape[1]:
        return 0.0
    return max(float(rows[block].abs().max()) for block in blocks(rows))
