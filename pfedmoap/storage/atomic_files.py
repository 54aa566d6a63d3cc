"""Atomic writes of JSON, text and safetensors: files are either complete or absent."""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save

from pfedmoap.errors import ConfigError, RunError
from pfedmoap.storage.space import room_for
from pfedmoap.wire.messages import Arrays

Pieces = Sequence[bytes | memoryview]

_TEMPORARY_END = ".pfedmoap"
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}" + re.escape(_TEMPORARY_END))


def write_bytes(path: Path, content: bytes | Pieces, *, private: bool = False) -> None:
    """Write a file atomically: readers see the old content or the new one, never a part.

    Args:
        path: The file; its folder is made where missing.
        content: Its new content, whole or in pieces; it is on disk when this returns.
        private: Whether only the owner may read it and enter folders that are made for it.
    """
    make_folder(path.parent, 0o700 if private else 0o777)
    pieces = [content] if isinstance(content, bytes) else content
    with room_for(path, sum(map(len, pieces))):
        _write_by_temporary(path, pieces, private)
    _sync_folder(path.parent)


def _write_by_temporary(path: Path, pieces: Pieces, private: bool) -> None:
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY_END
        )
    except OSError as error:
        error.filename = str(path)  # whose name says something to people
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o600 if private else 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def target_of_temporary(name: str) -> str | None:
    """Return the target's name of a temporary file of `write_bytes`; ``None`` for other files.

    A process that is killed leaves such files behind.

    Examples:
        >>> target_of_temporary(".config.json.k3_x9a0b.pfedmoap")
        'config.json'
        >>> target_of_temporary(".config.json.swp") is None
        True
    """
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def append_line(path: Path, line: str, *, private: bool = False) -> None:
    """Append a line, and have it on the disk before returning.

    Args:
        path: The file; made where missing, in a folder that is there.
        line: Text without a line break.
        private: Whether only the owner may read a file that is made.
    """
    mode = 0o600 if private else 0o666
    with (
        room_for(path, len(line) + 1),
        open(path, "a", opener=lambda name, flags: os.open(name, flags, mode)) as file,
    ):
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: object, *, private: bool = False) -> None:
    """Write JSON atomically, with sorted keys; see `write_bytes`."""
    write_bytes(path, json_bytes(value), private=private)


def json_bytes(value: object) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def read_json(path: Path) -> Any:  # JSON is of any shape
    """Read JSON.

    Raises:
        RunError: The file is missing or damaged.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; is {path.parent} a run directory?") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def parse_json(content: bytes) -> Any:  # JSON is of any shape
    """Read JSON from UTF-8.

    Raises:
        ValueError: It is none, or nests too deeply.
    """
    try:
        return json.loads(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_sections(path: Path) -> dict[str, Any]:  # options are of any type
    """Read a YAML file that holds sections with options.

    Raises:
        ConfigError: It cannot be read, is no YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # e.g. a date of month 13
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections with options, not {type(content).__name__}")
    return content


def write_arrays(path: Path, arrays: Arrays, *, private: bool = False) -> None:
    """Write named tensors atomically as safetensors; see `write_bytes`."""
    contiguous = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    write_bytes(path, save(contiguous), private=private)


def read_arrays(path: Path) -> Arrays:
    """Read named tensors from safetensors; no code in the file is ever run.

    Raises:
        RunError: The file is missing or damaged.
    """
    try:
        arrays: Arrays = load(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist") from error
    except SafetensorError as error:
        raise RunError(f"{path} is not a whole safetensors file: {error}") from error
    return arrays


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing, all of one mode; leave others alone."""
    if not folder.is_dir():
        make_folder(folder.parent, mode)
        folder.mkdir(mode=mode, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # a folder cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
