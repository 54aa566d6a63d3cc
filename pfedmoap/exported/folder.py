"""The folder of an exported model: safetensors and JSON, written once, checked whenever read."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pfedmoap.contract.folding import Folded
from pfedmoap.errors import RunError
from pfedmoap.exported.model import ExportedModel
from pfedmoap.exported.record import ModelRecord
from pfedmoap.storage.atomic_files import make_folder, write_arrays, write_json
from pfedmoap.storage.digests import sha256_of_file
from pfedmoap.storage.own_files import contents_in_words, holds_nothing
from pfedmoap.storage.strict_json import read_strict
from pfedmoap.wire.messages import Arrays

RECORD, TOWER, HEAD = "model.json", "tower.safetensors", "head.safetensors"
CARD, ONNX, ONNX_DATA, PROGRAM = "README.md", "model.onnx", "model.onnx.data", "model.pt2"
FILES = (RECORD, TOWER, HEAD, CARD, ONNX, ONNX_DATA, PROGRAM)
"""All files that such a folder may have."""

MOST_BYTES: Mapping[str, int] = {RECORD: 2**24, HEAD: 2**31, TOWER: 2**35}
"""Largest size of each file that is read."""


@dataclass(frozen=True)
class Parts:
    """An exported model as it is on disk.

    Attributes:
        record: All but the tensors.
        tower: The image tower's parameters and buffers, by name.
        head: The head's arrays, by name.
    """

    record: ModelRecord
    tower: Arrays
    head: Arrays

    @property
    def folded(self) -> Folded:
        """What is behind the tower."""
        return Folded(self.record.kind, self.record.options, self.head, self.record.experts)

    def model(self, device: torch.device) -> ExportedModel:
        """Put the parts together on a device.

        Raises:
            BackboneError: The tower's architecture and weights do not fit.
            RunError: The head is of no known kind, damaged, or does not fit the tower.
        """
        visual = self.record.architecture.build(self.tower).to(device)
        record = self.record
        name = record.origin.backbone
        return ExportedModel(visual, record.preprocessing, self.folded, record.class_names, name)


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model, or what is left of one."""
    return (folder / RECORD).is_file()


def write_model(folder: Path, parts: Parts, *, private: bool) -> None:
    """Write a model into a folder that is absent or empty.

    Args:
        folder: The folder.
        parts: The model; checksums are made here.
        private: Whether only the owner may read it.

    Raises:
        RunError: The folder holds something.
    """
    if not holds_nothing(folder):
        raise RunError(
            f"{folder} holds {contents_in_words(folder)}; choose another folder for the model"
        )
    make_folder(folder, 0o700 if private else 0o777)
    write_arrays(folder / TOWER, parts.tower, private=private)
    write_arrays(folder / HEAD, parts.head, private=private)
    sums = {name: sha256_of_file(folder / name) for name in (TOWER, HEAD)}
    record = replace(parts.record, sha256=sums).write()
    write_json(folder / RECORD, record, private=private)


def read_model(folder: Path) -> Parts:
    """Read a model; no code in it is run.

    Args:
        folder: The folder.

    Returns:
        The model.

    Raises:
        RunError: It is none, damaged, larger than any model, or of a later version.
    """
    file = _bounded(folder / RECORD)
    try:
        content = read_strict(file)
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
    record = ModelRecord.read(content, str(file), (TOWER, HEAD))
    arrays = {name: _tensors(folder / name, record.sha256[name]) for name in (TOWER, HEAD)}
    return Parts(record, arrays[TOWER], arrays[HEAD])


def _tensors(file: Path, expected: str) -> dict[str, Tensor]:
    if sha256_of_file(_bounded(file)) != expected:
        raise RunError(f"{file} is damaged: its checksum is not that of the model; get it anew")
    try:
        found: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise RunError(f"{file} is not a whole safetensors file: {error}") from error
    return found


def _bounded(file: Path) -> Path:
    try:
        found = file.stat()
    except OSError as error:
        raise RunError(
            f"{file} cannot be read ({error.strerror}); is {file.parent} an exported model?"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise RunError(f"{file} is no regular file")
    if (size := found.st_size) > (most := MOST_BYTES[file.name]):
        raise RunError(
            f"{file} has {size:,} bytes, and none of an exported model has over {most:,}"
        )
    return file
