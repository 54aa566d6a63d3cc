"""The page's structure (parts, sections, pictures, tables) and its HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from eval.report.style import Picture

BEGINNING = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta name="generator" content="pfedmoap">
"""
"""What every page begins with, so that another one is not overwritten."""


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is a name, the others are figures.

    Attributes:
        headings: One a column.
        rows: One text a cell.
        note: What to know about it.
        folded: Whether it is shown only once it is asked for, under this text.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: str | None = None


@dataclass(frozen=True)
class Section:
    """A section of a part.

    Attributes:
        title: Its heading.
        text: Plain paragraphs before the pictures.
        pictures: Its pictures.
        tables: Its tables.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Part:
    """One run, or one task of a comparison.

    Attributes:
        title: Its heading.
        subtitle: One line below it.
        tiles: The figures that matter, as (name, value, explanation).
        sections: Its sections.
        configuration: The configuration as text; empty for none.
    """

    title: str
    subtitle: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    configuration: str = ""


def render(title: str, parts: Sequence[Part], warning: str = "") -> str:
    """Render one self-contained page.

    Args:
        title: The page's title.
        parts: Its parts.
        warning: Text shown above everything else; empty for none.

    Returns:
        HTML that loads nothing from anywhere.
    """
    environment = Environment(
        loader=PackageLoader("eval", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title, parts=parts, warning=warning
    )
