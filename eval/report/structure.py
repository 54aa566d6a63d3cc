"""What a page is made of: parts, sections, pictures with their values, and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST_FIGURE = 28  # characters; a column with a longer cell holds words

Data = Mapping[str, Any]
"""What a part's script reads, as JSON: clients (`eval.report.client_data`) or methods."""


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is a name, the others are figures.

    Attributes:
        headings: One a column.
        rows: One text a cell.
        note: What to know about it.
        folded: Whether it is shown only once it is asked for, under this text.
        keys: What a click on each row picks in its part (``c3`` a client, ``m1`` a method); empty
            for nothing.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: str | None = None
    keys: Sequence[str] = ()

    @property
    def words(self) -> list[bool]:
        """Whether each column holds words, which are set like text, or figures."""
        return [
            any(len(row[column]) > LONGEST_FIGURE for row in self.rows)
            for column in range(len(self.headings))
        ]


@dataclass(frozen=True)
class Picture:
    """A picture for the page.

    Attributes:
        svg: Inline SVG.
        title: What it shows, in a few words: its name for who does not see it.
        caption: One sentence that says how to read it.
        values: Its values as a table, folded below it.
        whole: The same with whole axes, where those of ``svg`` leave something out; else empty.
    """

    svg: str
    title: str
    caption: str
    values: Table
    whole: str = ""


@dataclass(frozen=True)
class Chapter:
    """A piece of text under a heading of its own.

    Attributes:
        title: Its heading.
        paragraphs: Plain sentences.
        points: A list below them.
        table: A table below that; none for none.
    """

    title: str
    paragraphs: Sequence[str]
    points: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A section of a part.

    Attributes:
        title: Its heading.
        text: Plain paragraphs before the pictures.
        pictures: Its pictures.
        tables: Its tables.
        explorer: What of the part's data the reader can ask for here: one of its ``clients``, or
            some of its ``methods``; empty for nothing.
        points: A list below its text.
        chapters: Text with headings of its own, before the pictures.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    explorer: str = ""
    points: Sequence[str] = ()
    chapters: Sequence[Chapter] = ()


@dataclass(frozen=True)
class Part:
    """One run, or one task of a comparison.

    Attributes:
        title: Its heading.
        subtitle: One line below it.
        tiles: The figures that matter, as (name, value, explanation).
        sections: Its sections.
        configuration: The configuration as text; empty for none.
        data: What its script reads; empty for none.
    """

    title: str
    subtitle: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    configuration: str = ""
    data: Data = field(default_factory=dict)
