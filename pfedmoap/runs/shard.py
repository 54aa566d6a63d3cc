"""One shard: a file with the states of a round's clients, in pieces that are named by content.

A shard is a safetensors file of byte arrays, each named by its SHA-256; its metadata say which
record is whose. The run's manifest holds the checksum of a shard's header. Since the header names
every piece by its checksum, any one state can be read and checked without the rest of the file.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.runs.checksums import damaged
from pfedmoap.runs.state_content import Digest, Piece, digest_of
from pfedmoap.storage.atomic_files import parse_json
from pfedmoap.storage.digests import sha256
from pfedmoap.wire.messages import ClientId

_KEY = "pfedmoap"
_SIZE_BYTES = 8
_ALIGNED = 8


@dataclass(frozen=True)
class Entry:
    """One client's state in a shard.

    Attributes:
        round: The round that wrote it.
        record: Which record it is; see `state_content`.
    """

    round: int
    record: Digest


@dataclass(frozen=True)
class Shard:
    """What a shard holds, without its content.

    Attributes:
        file: Its name in the manifest.
        clients: The clients' states that it was written for.
        places: Where each piece begins and ends in the file, in its order there.
        bytes: Length of the file.
    """

    file: str
    clients: Mapping[ClientId, Entry]
    places: Mapping[Digest, tuple[int, int]]
    bytes: int

    def size(self, piece: Digest) -> int:
        """Bytes of a piece."""
        begin, end = self.places[piece]
        return end - begin


def encode_shard(
    file: str, clients: Mapping[ClientId, Entry], pieces: Mapping[Digest, Piece]
) -> tuple[list[Piece], str, Shard]:
    """Make a shard.

    Args:
        file: Its name in the manifest.
        clients: The states that it is written for; their pieces may be in other shards.
        pieces: Its content.

    Returns:
        The file in pieces, the checksum of its header, and what it holds.
    """
    about = {str(client): [entry.round, entry.record.hex()] for client, entry in clients.items()}
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(about)}}  # JSON
    end = 0
    for digest, piece in pieces.items():
        begin, end = end, end + len(piece)
        header[digest.hex()] = {"dtype": "U8", "shape": [len(piece)], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    head = len(text).to_bytes(_SIZE_BYTES, "little") + text
    return [head, *pieces.values()], sha256(head), _parsed(file, head)


def read_shard(path: Path, file: str, checksum: str | None) -> Shard:
    """Read a shard's header.

    Args:
        path: Where it is.
        file: Its name in the manifest.
        checksum: That of the header, from the manifest.

    Raises:
        RunError: The file is missing, its header is damaged, or it has another length.
    """
    try:
        with path.open("rb") as handle:
            first = handle.read(_SIZE_BYTES)
            length, there = int.from_bytes(first, "little"), os.fstat(handle.fileno()).st_size
            head = first + handle.read(length if length <= there else 0)
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    if checksum is None or sha256(head) != checksum:
        raise damaged(path, "its checksum is not the one in the run's manifest")
    shard = _parsed(file, head)
    if there != shard.bytes:
        raise damaged(path, f"it has {there} bytes, expected {shard.bytes}")
    return shard


def read_pieces(
    path: Path, shard: Shard, wanted: Iterable[Digest]
) -> Iterator[tuple[Digest, bytes]]:
    """Read some of a shard's pieces, in the order of the file.

    Raises:
        RunError: One is damaged.
    """
    try:
        with path.open("rb") as handle:
            for (begin, end), digest in sorted((shard.places[digest], digest) for digest in wanted):
                handle.seek(begin)
                piece = handle.read(end - begin)
                if digest_of(piece) != digest:
                    raise damaged(path, f"bytes {begin} to {end} have another checksum")
                yield digest, piece
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error


def check_shard(path: Path, shard: Shard) -> None:
    """Read every piece of a shard.

    Raises:
        RunError: One is damaged.
    """
    for _ in read_pieces(path, shard, shard.places):
        pass


def _parsed(file: str, head: bytes) -> Shard:
    """Read a header of which the checksum was right, so that its form is."""
    header = parse_json(head[_SIZE_BYTES:])
    about = json.loads(header.pop("__metadata__")[_KEY])
    clients = {
        ClientId(int(client)): Entry(round, bytes.fromhex(record))
        for client, (round, record) in about.items()
    }
    places, last = {}, len(head)
    for name, entry in header.items():
        begin, last = (len(head) + offset for offset in entry["data_offsets"])
        places[bytes.fromhex(name)] = (begin, last)
    return Shard(file, clients, places, last)
