"""The records of a run's rounds: a public log and a private one.

The private log is in the run's private part, which only its owner can access. It holds what is
computed from private data without noise, including results of evaluation, and the participants
if a privatizer keeps cohorts secret.
"""

import json
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.layout import Layout, PRIVATE, make_private_folder
from pfedmoap.storage.atomic_files import append_line, write_bytes

METRICS = "metrics.jsonl"
Record = dict[str, Any]  # one line of a log: JSON of any shape


def append_round(layout: Layout, record: Record, private: Record) -> None:
    """Append a round's line to both logs; it is on the disk when this returns.

    Args:
        layout: Where the run's files are, and which fields of the record are public.
        record: The round's record, with the ``round``.
        private: Further fields, which are private in every run.
    """
    shown, own = layout.metrics(record)
    own = own | private
    if own:
        folder = make_private_folder(layout.run)
        append_line(folder / METRICS, _text({"round": record["round"]} | own), private=True)
    append_line(layout.run / METRICS, _text(shown))


def read_rounds(layout: Layout) -> list[Record]:
    """Read all complete lines, merged with the private log's fields if it is present.

    Raises:
        RunError: A line is damaged.
    """
    private = {record["round"]: record for record in _lines(layout.run / PRIVATE / METRICS)}
    return [record | private.get(record["round"], {}) for record in _lines(layout.run / METRICS)]


def drop_rounds_after(layout: Layout, round: int) -> None:
    """Drop lines of later rounds, and incomplete ones, from both logs."""
    for file, private in ((layout.run / METRICS, False), (layout.run / PRIVATE / METRICS, True)):
        kept = [record for record in _lines(file) if record["round"] <= round]
        text = "".join(_text(record) + "\n" for record in kept)
        if file.exists() and file.read_text() != text:
            write_bytes(file, text.encode(), private=private)


def _text(record: Record) -> str:
    return json.dumps(record, sort_keys=True)


def _lines(file: Path) -> list[Record]:
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    return [
        _parsed(line, f"line {number} of {file}")
        for number, line in enumerate(lines, 1)
        if line.endswith("\n")
    ]


def _parsed(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RunError(f"{where} is damaged ({error}); restore it from a copy") from error
    if not isinstance(record, dict) or type(record.get("round")) is not int:
        raise RunError(f"{where} is no record of a round; restore it from a copy")
    return record
