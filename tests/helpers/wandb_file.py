"""Read a ``.wandb`` file: LevelDB's log format around W&B's own records."""

import json
import struct
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7
_FULL, _LAST = 1, 4


def records(file: Path) -> list[Any]:
    """All records of a file, in their order."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts, found = file.read_bytes(), _FILE_HEADER, b"", []
    assert content[:4] == b":W&B"
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + _HEADER])
        parts += content[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (_FULL, _LAST):
            found.append(Record.FromString(parts))
            parts = b""
    return found


def history(file: Path) -> list[dict[str, Any]]:
    """The logged rows of a file."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in one.history.item
        }
        for one in records(file)
        if one.WhichOneof("record_type") == "history"
    ]
