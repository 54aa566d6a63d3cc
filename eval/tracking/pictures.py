"""The report's pictures as PNG."""

from dataclasses import dataclass
from pathlib import Path

from eval.experiment import ExperimentLoader
from eval.report.raster import rasterised
from eval.report.run_data import read_evidence
from eval.report.run_section import run_part
from pfedmoap.runs.manifest import read_manifest


@dataclass(frozen=True)
class Drawn:
    """A picture.

    Attributes:
        name: Its name, for a file: ``03-who-holds-what``.
        caption: One sentence that says how to read it.
        png: Its content.
    """

    name: str
    caption: str
    png: bytes


_last: tuple[object, list[Drawn]] = (None, [])  # what was drawn, of which state of which run


def pictures_of(run: Path, loader: ExperimentLoader) -> list[Drawn]:
    """Draw the pictures of a run's report; several trackers in a row are given the same ones.

    Args:
        run: A finished run.
        loader: Loads what it names; what is loaded already is used.

    Returns:
        The pictures, in the order of the page.

    Raises:
        PFedMoAPError: The run, its data or its backbone cannot be read.
    """
    global _last
    state = (run.resolve(), read_manifest(run))  # with the checksums of all that is drawn
    known, drawn = _last
    if known != state or state[1] is None:
        drawn = _drawn(run, loader)
        _last = (state, drawn)
    return [*drawn]


def _drawn(run: Path, loader: ExperimentLoader) -> list[Drawn]:
    with rasterised() as images:
        part = run_part(read_evidence(run, loader))
    drawn: list[Drawn] = []
    for section in part.sections:
        for picture in section.pictures:
            title = "-".join("".join(c if c.isalnum() else " " for c in section.title).split())
            name = f"{len(drawn) + 1:02d}-{title.lower()}"
            drawn.append(Drawn(name, picture.caption, images[picture.caption]))
    return drawn
