"""A run's state files: named tensors with their owner and round."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pfedmoap.runs.checksums import damaged
from pfedmoap.storage.atomic_files import parse_json, write_bytes
from pfedmoap.storage.digests import sha256
from pfedmoap.wire.messages import Arrays, ClientId

_KEY = "pfedmoap"
_HEADER_BYTES = 8


@dataclass(frozen=True)
class Owner:
    """The owner of a state file.

    Attributes:
        client: The client; ``None`` for the server.
        round: The round that wrote it.
    """

    client: ClientId | None
    round: int

    def __str__(self) -> str:
        who = "the server" if self.client is None else f"client {self.client}"
        return f"the state of {who} after round {self.round}"


def write_state(path: Path, arrays: Arrays, owner: Owner, *, private: bool = False) -> str:
    """Write state atomically, and its owner into the file's metadata.

    Args:
        path: The file.
        arrays: The state.
        owner: Whose it is.
        private: Whether only the current user may read the file.

    Returns:
        The file's checksum.
    """
    contiguous = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    about = json.dumps({"client": owner.client, "round": owner.round})
    content: bytes = save(contiguous, metadata={_KEY: about})  # one key: their order is not fixed
    write_bytes(path, content, private=private)
    return sha256(content)


def read_state(path: Path, owner: Owner, checksum: str | None) -> Arrays:
    """Read state; no code in the file is ever run.

    Args:
        path: The file.
        owner: Whose it must be.
        checksum: What the manifest says of the file; ``None`` where an earlier version wrote it.

    Raises:
        RunError: The file is missing, damaged, or of another owner.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    try:
        arrays: Arrays = load(content)
        found = owner_in(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damaged(path, f"it is not a whole safetensors file ({error})") from error
    if found is not None and found != owner:
        raise damaged(path, f"it holds {found}, expected {owner}")
    if checksum is not None and sha256(content) != checksum:
        raise damaged(path, "its checksum is not the one in the run's manifest")
    if checksum is None:
        for name, array in arrays.items():
            if array.is_floating_point() and not bool(torch.isfinite(array).all()):
                raise damaged(path, f"{name} holds values that are not finite")
    return arrays


def owner_in(content: bytes) -> Owner | None:
    """Read a state file's owner; ``None`` if an earlier version wrote it.

    Raises:
        ValueError: The header is damaged.
    """
    size = int.from_bytes(content[:_HEADER_BYTES], "little")
    header: Any = parse_json(content[_HEADER_BYTES : _HEADER_BYTES + size])
    about = header.get("__metadata__", {}).get(_KEY)
    if about is None:
        return None
    record = json.loads(about)
    if not isinstance(record, dict) or set(record) != {"client", "round"}:
        raise ValueError("its metadata do not say whose it is")
    client, round = record["client"], record["round"]
    if type(round) is not int or not (client is None or type(client) is int):
        raise ValueError("its metadata do not say whose it is")
    return Owner(None if client is None else ClientId(client), round)
