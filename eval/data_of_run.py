"""The data of a run that is read back: where they are now, and what changed in them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Federation
from pfedmoap.data.images import printable
from pfedmoap.data.known_data import (
    KEY,
    MOST_NAMED,
    KnownData,
    changes,
    quick_changes,
    remember,
    trained_among,
)
from pfedmoap.errors import ConfigError, DataError, RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record

logger = logging.getLogger(__name__)

PLACE_OPTIONS = ("root", "file", "path")
"""Options by which a reader is told where its data lie."""


def has_its_data_at_sites(task: Record) -> bool:
    """Whether a run is a federation's, whose data and personal models are elsewhere.

    Args:
        task: What the run knows of its data; before 0.2.0 the name of the data alone told it.
    """
    older = str(task.get("data", "")).startswith("sites of ")
    return bool(task.get("at_sites", older))


def remembered(sections: Mapping[str, Any], federation: Federation, out: Path) -> Record:
    """Make the entry of a run's ``task.json`` about its data.

    Args:
        sections: The configuration.
        federation: The clients.
        out: The run's folder.

    Returns:
        One entry, or none where the data are no files of this machine.
    """
    option = _option(sections)
    if option is None or not Path(sections["data"][option]).expanduser().exists():
        return {}
    splits = [own.split for own in federation.clients.values()]
    uses = {
        "train": np.concatenate([federation.server_images, *(split.train for split in splits)]),
        "test": np.flatnonzero(federation.dataset.is_test),
    }
    place = Path(sections["data"][option])
    return {KEY: remember(federation.dataset, uses, place, out).write()}


def known_data(run: RunDirectory) -> KnownData | None:
    """Read a run's record of its data; ``None`` if they are no files or an earlier version ran."""
    record = run.task.get(KEY)
    return None if record is None else KnownData.read(record)


def located(run: RunDirectory, root: str | None = None) -> dict[str, Any]:
    """Return a run's configuration with the current location of its data.

    Args:
        run: The run.
        root: That place, if they have moved.

    Returns:
        Options by section.

    Raises:
        ConfigError: A place was given, and the data have none.
        DataError: They are not there.
        RunError: They are neither where they were nor at the same place seen from the run.
    """
    sections = dict(run.config)
    option = _option(sections)
    if option is None:
        if root is not None:
            name = sections["data"]["name"]
            raise ConfigError(f"--data.root was given, but the data set {name!r} has no place")
        return sections
    known = known_data(run)
    if root is not None:
        place = Path(root).expanduser()
        if option == "file" and place.is_dir():
            place /= Path(sections["data"][option]).name
        if not place.exists():
            raise DataError(f"--data.root: there is nothing at {printable(place)}")
    elif known is not None:
        place = known.place(run.path)
    else:
        return sections
    return sections | {"data": dict(sections["data"]) | {option: str(place)}}


def report_changes(run: RunDirectory, dataset: ImageDataset) -> None:
    """Warn of changes in a run's data since it was trained.

    Raises:
        RunError: The classes are others.
    """
    known = known_data(run)
    if known is None or not (what := changes(known, dataset)):
        return
    blind = (
        ""
        if dataset.inventory is not None
        else ("; nothing tells whether what was trained on is tested on now")
    )
    logger.warning(
        "the data of %s changed since it was trained: %s%s", printable(run.path), what, blind
    )
    if list(dataset.class_names) != (before := run.task["class_names"]):
        raise RunError(
            f"the data of {run.path} changed since it was trained: {what}; its {len(before)} "
            f"classes are {len(dataset.class_names)} others now, for which its prompts mean nothing"
        )


def refuse_changes(run: RunDirectory, dataset: ImageDataset) -> None:
    """Refuse to continue a run on changed data, before any of them is encoded.

    Raises:
        RunError: They changed; says which files.
    """
    known = known_data(run)
    if known is not None and (what := changes(known, dataset)):
        raise RunError(
            f"the data of {printable(run.path)} changed since it was started: {what}. It goes on "
            "only with the data that it knows: put them back, or choose another folder with --out"
        )


def refuse_trained(run: RunDirectory, dataset: ImageDataset) -> None:
    """Refuse to test a run on images that it was trained on.

    Raises:
        RunError: Data changed so that some of its training images are test images now.
    """
    known = known_data(run)
    if known is None:
        return
    if both := trained_among(known, dataset, np.flatnonzero(dataset.is_test)):
        more = ", ..." if len(both) > MOST_NAMED else ""
        raise RunError(
            f"{len(both)} test images were trained on by {run.path}, since its data changed: "
            f"{printable(', '.join(both[:MOST_NAMED]))}{more}. Put the data back as they were, or "
            "give a copy of them with --data.root"
        )


def report_quick_changes(run: RunDirectory, known: KnownData) -> None:
    """Warn of changes that can be seen without reading the data; for commands that need none."""
    since = (run.path / "task.json").stat().st_mtime
    if what := quick_changes(known, run.path, since):
        logger.warning("the data of %s changed since it was trained: %s", printable(run.path), what)


def _option(sections: Mapping[str, Any]) -> str | None:
    """Return the option that names the location of the data."""
    return next((name for name in PLACE_OPTIONS if sections["data"].get(name)), None)
