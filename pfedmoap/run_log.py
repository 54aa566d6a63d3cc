"""The records of a run's rounds: one log that may be shown, and one for the operator's eyes alone.

The private log lies in a folder of its own, which only its owner may enter. It holds what is
counted from private data without noise, and where a privatizer keeps cohorts secret, who took part.
"""

import json
import os
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.storage import write_bytes

METRICS, PRIVATE = "metrics.jsonl", "private"
Record = dict[str, Any]  # one line of a log: JSON of any shape


def append_round(run: Path, record: Record, private: Record) -> None:
    """Append a round's line to both logs; it is on the disk when this returns.

    Args:
        run: The run's folder.
        record: What may be shown, with the ``round``.
        private: What may not, without it; nothing is written where there is none.
    """
    if private:
        _append(private_folder(run) / METRICS, {"round": record["round"]} | private)
    _append(run / METRICS, record)


def read_rounds(run: Path) -> list[Record]:
    """Read all complete lines; the private ones fill their places where they are at hand.

    Raises:
        RunError: A line is damaged.
    """
    private = {record["round"]: record for record in _lines(run / PRIVATE / METRICS)}
    return [record | private.get(record["round"], {}) for record in _lines(run / METRICS)]


def drop_rounds_after(run: Path, round: int) -> None:
    """Drop lines of later rounds, and incomplete ones, from both logs."""
    for file in (run / METRICS, run / PRIVATE / METRICS):
        kept = [record for record in _lines(file) if record["round"] <= round]
        text = "".join(json.dumps(record, sort_keys=True) + "\n" for record in kept)
        if file.exists() and file.read_text() != text:
            write_bytes(file, text.encode())


def private_folder(run: Path) -> Path:
    """Make the folder of a run for what must not be shared with it, open to its owner alone."""
    folder = run / PRIVATE
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _append(file: Path, record: Record) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(record, sort_keys=True) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


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
