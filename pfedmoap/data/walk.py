"""Find images in a folder tree; skipped entries are counted and named."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pfedmoap.data.images import printable, seems_image

logger = logging.getLogger(__name__)

DEEPEST = 4
MOST_NAMED = 8


def walk(root: Path) -> Iterator[PurePosixPath]:
    """Find the images below a folder, in no order, and warn once of skipped entries.

    Hidden names, which begin with a dot, are skipped without a warning.

    Args:
        root: The folder.

    Yields:
        Paths below it.
    """
    others: Counter[str] = Counter()
    empty: list[str] = []
    closed: list[OSError] = []
    deeper = 0
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=closed.append):
        place = PurePosixPath(Path(folder).relative_to(root).as_posix())
        subfolders[:] = [n for n in subfolders if not n.startswith(".")]
        found = 0
        for name in names:
            if name.startswith("."):
                continue
            if seems_image(Path(folder) / name):
                found += 1
                yield place / name
            else:
                others[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
        if not found and not subfolders and place.parts:
            empty.append(str(place))
        if len(place.parts) >= DEEPEST:
            deeper += len(subfolders)
            subfolders.clear()
    _report(root, others, sorted(empty))
    if deeper:
        logger.warning(
            "%s: %d folders below depth %d are not looked into",
            *(printable(root), deeper, DEEPEST),
        )
    if closed:
        logger.warning(
            "%s: %d folders cannot be read, such as %s (%s)",
            *(printable(root), len(closed), printable(closed[0].filename), closed[0].strerror),
        )


def _report(root: Path, others: Counter[str], empty: list[str]) -> None:
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(MOST_NAMED))
        more = ", ..." if len(others) > MOST_NAMED else ""
        logger.warning(
            "%s: %d files that are no images are passed over (%s)",
            printable(root),
            others.total(),
            printable(kinds) + more,
        )
    if empty:
        shown = ", ".join(map(printable, empty[:MOST_NAMED]))
        more = ", ..." if len(empty) > MOST_NAMED else ""
        logger.warning(
            "%s: %d folders hold no image, so that no class comes of them: %s",
            printable(root),
            len(empty),
            shown + more,
        )
