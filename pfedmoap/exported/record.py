"""``model.json``: all of an exported model that is no tensor, checked when it is read."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from pfedmoap.contract.folding import Scalar
from pfedmoap.errors import BackboneError, RunError
from pfedmoap.models.clip.architecture import Architecture
from pfedmoap.models.clip.preprocessing import Interpolation, Preprocessing, Resize
from pfedmoap.storage.strict_json import fields, integer, items, number, text
from pfedmoap.wire.messages import ClientId

FORMAT = "pfedmoap-model"
VERSION = 1
MOST_CLASSES = 100_000
MOST_EXPERTS = 100_000
LARGEST_IMAGE = 4096
MOST_OPTIONS = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Origin:
    """Where an exported model comes from.

    Attributes:
        pfedmoap: Version of this package that wrote it.
        method: Name of the method that trained it.
        client: Whose model it is.
        round: The run's last round.
        backbone: Name of the backbone in the run's configuration.
        fingerprint: The backbone's; see `FrozenCLIP.fingerprint`.
    """

    pfedmoap: str
    method: str
    client: int
    round: int
    backbone: str
    fingerprint: str


@dataclass(frozen=True)
class ModelRecord:
    """An exported model but for its tensors.

    Attributes:
        class_names: In label order.
        preprocessing: Of the images.
        architecture: Of the image tower.
        kind: Kind of the head; see `pfedmoap.exported.heads`.
        options: Of the head.
        experts: Whose prompts experts 1 .. E-1 are.
        origin: Where it comes from.
        sha256: Of the files with tensors, by name.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: Architecture
    kind: str
    options: Mapping[str, Scalar]
    experts: tuple[ClientId, ...]
    origin: Origin
    sha256: Mapping[str, str] = field(default_factory=dict)

    def write(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "class_names": list(self.class_names),
            "preprocessing": asdict(self.preprocessing),
            "tower": {
                "embed_dim": self.architecture.embed_dim,
                "quick_gelu": self.architecture.quick_gelu,
                "vision": dict(self.architecture.vision),
            },
            "head": {
                "kind": self.kind,
                "options": dict(self.options),
                "experts": list(self.experts),
            },
            "origin": asdict(self.origin),
            "sha256": dict(self.sha256),
        }

    @classmethod
    def read(cls, record: object, where: str, files: tuple[str, ...]) -> "ModelRecord":
        """Read what `write` made.

        Args:
            record: JSON of any shape.
            where: The file, for messages.
            files: The files with tensors, all of which it must name.

        Raises:
            RunError: It is no model, of a later version, or damaged.
        """
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise RunError(f"{where} is no exported model: `pfedmoap export` writes them")
        if record.get("version") != VERSION:
            raise RunError(
                f"{where} is of version {record.get('version')!r:.30}, and this package reads "
                f"version {VERSION}; install the pfedmoap that wrote it, or a newer one"
            )
        try:
            return cls(*_parts(record, files))
        except (ValueError, BackboneError) as error:
            raise RunError(f"{where} is damaged: {error}") from error


def _parts(record: Mapping[str, Any], files: tuple[str, ...]) -> tuple[Any, ...]:
    """The record's fields, in their order; raises `ValueError`."""
    keys = ("format", "version", "class_names", "preprocessing", "tower", "head", "origin")
    fields(record, (*keys, "sha256"))
    names = tuple(
        text(name, "a class name") for name in items(record["class_names"], "class_names")
    )
    if not 1 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise ValueError(f"class_names must be 1 to {MOST_CLASSES} different names")
    tower = fields(record["tower"], ("embed_dim", "quick_gelu", "vision"))
    head = fields(record["head"], ("kind", "options", "experts"))
    experts = items(head["experts"], "experts")
    if len(experts) > MOST_EXPERTS:
        raise ValueError(f"there are more than {MOST_EXPERTS} experts")
    sums = fields(record["sha256"], files)
    for name, digest in sums.items():
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError(f"the checksum of {name} is none")
    return (
        names,
        _preprocessing(record["preprocessing"]),
        Architecture(tower["embed_dim"], tower["quick_gelu"] is True, tower["vision"]),
        text(head["kind"], "kind"),
        _options(head["options"]),
        tuple(ClientId(integer(expert, "an expert")) for expert in experts),
        _origin(record["origin"]),
        sums,
    )


def _preprocessing(record: object) -> Preprocessing:
    names = ("size", "mean", "std", "interpolation", "resize", "fill")
    found = fields(record, names)
    three = {name: items(found[name], name) for name in ("mean", "std")}
    if any(len(values) != 3 for values in three.values()):
        raise ValueError("mean and std must have three numbers")
    for name, kinds in (("interpolation", Interpolation), ("resize", Resize)):
        if found[name] not in get_args(kinds):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kinds))}")
    return Preprocessing(
        integer(found["size"], "size", 1, LARGEST_IMAGE),
        _triple([number(value, "mean", -1e6) for value in three["mean"]]),
        _triple([number(value, "std", 1e-6) for value in three["std"]]),
        found["interpolation"],
        found["resize"],
        integer(found["fill"], "fill", 0, 255),
    )


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return (first, second, third)


def _options(record: object) -> dict[str, Scalar]:
    if not isinstance(record, dict) or len(record) > MOST_OPTIONS:
        raise ValueError("the head's options are no object, or too many")
    for name, value in record.items():
        if isinstance(value, str):
            text(value, name)
        elif not isinstance(value, bool | int | float):
            raise ValueError(f"the head's option {name} is neither a number nor a word")
    return record


def _origin(record: object) -> Origin:
    found = fields(record, ("pfedmoap", "method", "client", "round", "backbone", "fingerprint"))
    words = {name: text(found[name], name) for name in ("pfedmoap", "method", "backbone")}
    return Origin(
        **words,
        client=integer(found["client"], "client"),
        round=integer(found["round"], "round"),
        fingerprint=text(found["fingerprint"], "fingerprint"),
    )
