"""The statement as a Markdown document, and its two halves: the text, and the seal below it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from eval.escaping import for_markdown, for_terminal
from eval.report.structure import Chapter, Table
from pfedmoap.errors import RunError
from pfedmoap.storage.strict_json import parse_strict

BEGINNING = b"# Statement of differential privacy"
"""What every statement begins with, so that another file is not overwritten."""

_SEAL = "\n## Seal\n"
_OPEN, _CLOSE = "\n```json\n", "\n```\n"


def text_of(chapters: Sequence[Chapter], name: str, at: str) -> str:
    """Make the part that is read.

    Args:
        chapters: What it says.
        name: The run's name.
        at: When it was made.
    """
    lines = [BEGINNING.decode(), "", f"Run: {for_markdown(name)}. Made at {at}."]
    for chapter in chapters:
        lines += ["", f"## {chapter.title}", ""]
        lines += list(_separated(for_terminal(paragraph) for paragraph in chapter.paragraphs))
        if chapter.points:
            lines += ["", *(f"- {for_terminal(point)}" for point in chapter.points)]
        if chapter.table is not None:
            lines += ["", *_rows(chapter.table)]
    return "\n".join(lines) + "\n"


def with_seal(text: str, seal: dict[str, Any]) -> str:
    """Put a seal below a text."""
    told = (
        "What this statement was made from, by SHA-256. `pfedmoap privacy verify FILE RUN` checks "
        "it against the run."
    )
    return f"{text}{_SEAL}\n{told}\n{_OPEN}{json.dumps(seal, indent=1, sort_keys=True)}{_CLOSE}"


def divided(content: bytes) -> tuple[str, dict[str, Any]]:
    """Take a document apart into its text and its seal.

    Raises:
        RunError: It is no statement, or its seal is damaged.
    """
    try:
        text, mark, rest = content.decode().partition(_SEAL)
        if not mark or not content.startswith(BEGINNING):
            raise ValueError("it does not begin and end like one")
        seal = parse_strict(rest.split(_OPEN, 1)[1].removesuffix(_CLOSE))
        if not isinstance(seal, dict):
            raise ValueError("its seal is no object")
    except (ValueError, IndexError) as error:
        raise RunError(
            f"this is no statement of `pfedmoap privacy statement`, or its seal is damaged: {error}"
        ) from error
    return text, seal


def _separated(paragraphs: Iterator[str]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ""
        yield paragraph


def _rows(table: Table) -> Iterator[str]:
    yield _line(table.headings)
    yield _line(["---"] * len(table.headings))
    yield from (_line([for_markdown(cell) for cell in row]) for row in table.rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
