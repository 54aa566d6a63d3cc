"""A run's record of its data, and changes in them since."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.images import printable, read_content
from pfedmoap.data.inventory import DataFile
from pfedmoap.errors import DataError, RunError
from pfedmoap.storage.digests import sha256, sha256_of_file

KEY = "data_files"  # in task.json
MOST_NAMED = 4
DIGEST_DIGITS = 32  # of a SHA-256, in hexadecimal
ENDS = "ends-"  # before the digest of a file's two ends


@dataclass(frozen=True)
class KnownFile:
    """A file that a run used.

    Attributes:
        use: ``train`` or ``test``.
        size_bytes: Its length.
        digest: As in `DataFile`, shortened.
        label: Name of its class.
    """

    use: str
    size_bytes: int
    digest: str
    label: str


@dataclass(frozen=True)
class KnownData:
    """A run's record of its data.

    Attributes:
        fingerprint: The data set's.
        images: How many images it had, used or not.
        files: The files that were used, by name.
        absolute: Where the data were.
        relative: The same, seen from the run's folder.
        below: The folder of the names, seen from there.
    """

    fingerprint: str
    images: int
    files: Mapping[str, KnownFile]
    absolute: str
    relative: str
    below: str

    @classmethod
    def read(cls, record: object) -> "KnownData":
        """Read what `write` made.

        Raises:
            RunError: It is damaged.
        """
        try:
            fields: Any = record  # JSON of any shape
            files = {}
            for name, line in fields["files"].items():
                use, size, digest, label = str(line).split(" ", 3)
                files[str(name)] = KnownFile(use, int(size), digest, label)
            return cls(
                str(fields["fingerprint"]),
                int(fields["images"]),
                files,
                *(str(fields[key]) for key in ("absolute", "relative", "below")),
            )
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RunError(f"what the run knows of its data is damaged: {error!r:.80}") from error

    def write(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fingerprint": self.fingerprint,
            "images": self.images,
            "absolute": self.absolute,
            "relative": self.relative,
            "below": self.below,
            "files": {
                name: f"{one.use} {one.size_bytes} {one.digest} {one.label}"
                for name, one in self.files.items()
            },
        }

    def trained(self) -> dict[str, str]:
        """Names of the files that were trained on, by digest."""
        return {one.digest: name for name, one in self.files.items() if one.use == "train"}

    def place(self, run: Path) -> Path:
        """Where the data are: where they were, or else at the same place seen from the run.

        Raises:
            RunError: They are at neither.
        """
        for place in (Path(self.absolute), Path(os.path.normpath(run / self.relative))):
            if place.exists():
                return place
        raise RunError(
            f"the data of {printable(run)} are no longer at {printable(self.absolute)}: say where "
            "they are with --data.root"
        )


@dataclass(frozen=True)
class Changes:
    """Differences between data and a run's record of them.

    Attributes:
        added: Names of files that are new.
        removed: Of files that are gone.
        changed: Of files with another content or label.
        others: Whether something else changed: files that the run did not use, or data that are no
            files.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    others: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.others)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {kind} ({_some(names)})"
            for kind, names in (
                ("added", self.added),
                ("removed", self.removed),
                ("changed", self.changed),
            )
            if names
        ]
        if self.others:
            parts.append("files that it did not use")
        return ", ".join(parts)


def remember(
    dataset: ImageDataset, uses: Mapping[str, IntArray], place: Path, run: Path
) -> KnownData:
    """Make a run's record of its data.

    Args:
        dataset: The data set.
        uses: Indices of the images that are for ``train`` and for ``test``.
        place: Where the data lie, as the user said.
        run: The run's folder.

    Returns:
        The record.
    """
    absolute = os.path.abspath(place.expanduser())
    inventory = dataset.inventory
    files: dict[str, KnownFile] = {}
    if inventory is not None:
        for use, indices in uses.items():
            for i in np.unique(indices):
                files[inventory.files[i].name] = _known(dataset, inventory.files[i], int(i), use)
    below = absolute if inventory is None else os.path.abspath(inventory.folder)
    return KnownData(
        dataset.fingerprint,
        len(dataset),
        files,
        absolute,
        os.path.relpath(absolute, os.path.abspath(run)),
        os.path.relpath(below, absolute),
    )


def changes(known: KnownData, dataset: ImageDataset) -> Changes:
    """Compare data with a run's record of them.

    Args:
        known: The record.
        dataset: The data now.

    Returns:
        The differences; where the run did not use every file, those of the others have no names.
    """
    inventory = dataset.inventory
    if inventory is None and not known.files:  # no file for each example, e.g. questions
        return Changes(others=dataset.fingerprint != known.fingerprint)
    files = () if inventory is None else inventory.files
    now = {one.name: i for i, one in enumerate(files)}
    removed = tuple(sorted(known.files.keys() - now.keys()))
    changed = tuple(
        name
        for name, one in sorted(known.files.items())
        if name in now and _known(dataset, files[now[name]], now[name], one.use) != one
    )
    if len(known.files) == known.images:
        found = Changes(tuple(sorted(now.keys() - known.files.keys())), removed, changed)
    else:
        unused = known.images - len(known.files)
        found = Changes((), removed, changed, len(now.keys() - known.files.keys()) != unused)
    same = found or dataset.fingerprint == known.fingerprint
    return found if same else Changes(others=True)


def changes_between(known: KnownData, now: KnownData) -> Changes:
    """Compare what two starts of a run know of their data, the uses of files included."""
    both = sorted(known.files.keys() & now.files.keys())
    found = Changes(
        tuple(sorted(now.files.keys() - known.files.keys())),
        tuple(sorted(known.files.keys() - now.files.keys())),
        tuple(name for name in both if known.files[name] != now.files[name]),
    )
    same = known.fingerprint == now.fingerprint and known.images == now.images
    return found if found or same else Changes(others=True)


def trained_among(known: KnownData, dataset: ImageDataset, indices: Iterable[int]) -> list[str]:
    """Names of some images, to be tested on, that the run was trained on.

    An image counts by its name and by its content, but not where its content was among the test
    images when the run was trained: such doubles were reported then.
    """
    if dataset.inventory is None:
        return []
    trained = known.trained()
    doubles = {one.digest for one in known.files.values() if one.use == "test"}
    found = []
    for one in dataset.inventory.of(indices).files:
        before = known.files.get(one.name)
        moved = _short(one.digest) in trained and _short(one.digest) not in doubles
        if moved or (before is not None and before.use == "train"):
            found.append(one.name)
    return found


def trained_copy(known: KnownData, image: Path) -> str | None:
    """Which file that a run was trained on has the same content as some file, if one has."""
    try:
        digest = sha256(read_content(image))
    except DataError:
        return None  # decoding the file reports the reason
    return known.trained().get(_short(digest))


def _known(dataset: ImageDataset, one: DataFile, index: int, use: str) -> KnownFile:
    label = dataset.class_names[dataset.labels[index]]
    return KnownFile(use, one.size_bytes, _short(one.digest), label)


def quick_changes(known: KnownData, run: Path, since: float) -> Changes:
    """Find changed files of a run without reading all of them.

    A file is read where its length differs or it was written after the run began.

    Args:
        known: The run's record.
        run: Its folder.
        since: When it began, seconds since 1970.

    Returns:
        What is gone or different; nothing of new files. Empty where the data are out of reach:
        nothing that reads no data needs them.
    """
    try:
        folder = Path(os.path.normpath(known.place(run) / known.below))
    except RunError:
        return Changes()
    removed, changed = [], []
    for name, one in sorted(known.files.items()):
        try:
            found = (folder / name).stat()
            if found.st_size != one.size_bytes or (
                found.st_mtime >= since and _digest(folder / name, one.digest) != one.digest
            ):
                changed.append(name)
        except OSError:
            removed.append(name)
    return Changes((), tuple(removed), tuple(changed))


def _digest(file: Path, like: str) -> str:
    """Digest of a file; the known one where that is of its two ends alone."""
    return like if like.startswith(ENDS) else _short(sha256_of_file(file))


def _short(digest: str) -> str:
    mark = ENDS if digest.startswith(ENDS) else ""
    return mark + digest.removeprefix(mark)[:DIGEST_DIGITS]


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > MOST_NAMED else ""
    return printable(", ".join(names[:MOST_NAMED]) + more)
