"""The records of a run's rounds: a public log and a private one.

The private log is in the run's private part, which only its owner can access. It holds what is
computed from private data without noise, including results of evaluation, and the participants
if a privatizer keeps cohorts secret.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfedmoap.runs.checksums import damaged, sha256_of_line
from pfedmoap.runs.layout import PRIVATE, Layout, make_private_folder
from pfedmoap.storage.atomic_files import append_line, parse_json, write_bytes

METRICS = "metrics.jsonl"
PRIVATE_METRICS = f"{PRIVATE}/{METRICS}"
Record = dict[str, Any]  # one line of a log: JSON of any shape
Lines = Mapping[str, tuple[str, ...]]  # checksums by log


def append_round(layout: Layout, record: Record, private: Record) -> dict[str, str]:
    """Append a round's line to both logs; it is on the disk when this returns.

    Args:
        layout: Where the run's files are, and which fields of the record are public.
        record: The round's record, with the ``round``.
        private: Further fields, which are private in every run.

    Returns:
        The line's checksum by log; see `sha256_of_line`.
    """
    shown, own = layout.metrics(record)
    own = own | private
    made = {}
    if own:
        folder = make_private_folder(layout.run)
        own = {"round": record["round"]} | own
        append_line(folder / METRICS, _text(own), private=True)
        made[PRIVATE_METRICS] = sha256_of_line(own)
    append_line(layout.run / METRICS, _text(shown))
    return made | {METRICS: sha256_of_line(shown)}


def read_rounds(layout: Layout, round: int, lines: Lines) -> list[Record]:
    """Read all complete lines, merged with the private log's fields if it is present.

    Args:
        layout: Where the run's files are.
        round: The last complete round: lines up to it must be those that were written.
        lines: Their checksums by log; a log without any is taken as it is.

    Raises:
        RunError: A line is damaged or missing.
    """
    found = _checked(layout.run, PRIVATE_METRICS, round, lines)
    private = {record["round"]: record for record in found}
    return [
        record | private.get(record["round"], {})
        for record in _checked(layout.run, METRICS, round, lines)
    ]


def read_public_rounds(layout: Layout, round: int, lines: Lines) -> list[Record]:
    """Read all complete lines of the public log alone; see `read_rounds`.

    Raises:
        RunError: A line is damaged or missing.
    """
    return _checked(layout.run, METRICS, round, lines)


def drop_rounds_after(layout: Layout, round: int, lines: Lines) -> None:
    """Drop what a killed round left of its lines, from both logs.

    Raises:
        RunError: A line of a complete round is damaged or missing; nothing was touched.
    """
    for name in (METRICS, PRIVATE_METRICS):
        file = layout.run / name
        found = _checked(layout.run, name, round, lines)
        kept = [record for record in found if record["round"] <= round]
        text = "".join(_text(record) + "\n" for record in kept).encode()
        if file.exists() and file.read_bytes() != text:
            write_bytes(file, text, private=name == PRIVATE_METRICS)


def checksums_of(run: Path, round: int) -> dict[str, tuple[str, ...]]:
    """Take the checksums of the lines of all complete rounds, as they are now."""
    found = {name: _checked(run, name, round, {}) for name in (METRICS, PRIVATE_METRICS)}
    return {
        name: tuple(sha256_of_line(line) for line in lines if line["round"] <= round)
        for name, lines in found.items()
        if lines
    }


def line_of(content: bytes) -> Record:
    """Read one line of a log.

    Raises:
        ValueError: It is no record of a round.
    """
    record = parse_json(content)
    if not isinstance(record, dict) or type(record.get("round")) is not int:
        raise ValueError("it is no record of a round")
    return record


def _text(record: Record) -> str:
    return json.dumps(record, sort_keys=True)


def _checked(run: Path, name: str, round: int, lines: Lines) -> list[Record]:
    """Read one log, and hold the lines of complete rounds to their checksums.

    What follows them may be anything: a killed round, or one that is being written.
    """
    file = run / name
    expected = lines.get(name)
    raw = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    if expected is not None and len(raw) < len(expected):
        raise damaged(file, f"it has {len(raw)} complete lines, expected {len(expected)}")
    records: list[Record] = []
    for number, line in enumerate(raw, 1):
        where = f"line {number} of {file}"
        try:
            record = line_of(line)
        except ValueError as error:
            if expected is not None and number > len(expected):
                break
            raise damaged(Path(where), str(error)) from error
        if expected is not None and number <= len(expected):
            if sha256_of_line(record) != expected[number - 1]:
                raise damaged(Path(where), "its checksum is not the one in the run's manifest")
        elif expected is not None and record["round"] <= round:
            raise damaged(Path(where), f"it is of round {record['round']}, and there are all lines")
        records.append(record)
    return records
