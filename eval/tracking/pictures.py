"""The report's pictures as PNG."""

from dataclasses import dataclass
from pathlib import Path

from eval.experiment import ExperimentLoader
from eval.report.raster import rasterised
from eval.report.run_data import read_evidence
from eval.report.run_section import run_part


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


def pictures_of(run: Path, loader: ExperimentLoader) -> list[Drawn]:
    """Draw the pictures of a run's report.

    Args:
        run: A finished run.
        loader: Loads what it names; what is loaded already is used.

    Returns:
        The pictures, in the order of the page.

    Raises:
        PFedMoAPError: The run, its data or its backbone cannot be read.
    """
    with rasterised() as images:
        part = run_part(read_evidence(run, loader))
    drawn: list[Drawn] = []
    for section in part.sections:
        for picture in section.pictures:
            title = "-".join("".join(c if c.isalnum() else " " for c in section.title).split())
            name = f"{len(drawn) + 1:02d}-{title.lower()}"
            drawn.append(Drawn(name, picture.caption, images[picture.caption]))
    return drawn
