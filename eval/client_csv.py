"""Write the table of clients as CSV, one line a client."""

import csv
import io
from dataclasses import asdict, fields
from pathlib import Path

from eval.accuracy import ClientScore
from eval.escaping import for_csv
from pfedmoap.storage.atomic_files import write_bytes

BEGINNING = b"client,domain,train_images,"
"""What the table begins with in every version."""


def write_client_csv(path: Path, scores: tuple[ClientScore, ...], *, private: bool = False) -> None:
    """Write one line a client; see `pfedmoap.storage.atomic_files.write_bytes`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(ClientScore)], lineterminator="\n")
    writer.writeheader()
    rows = [asdict(score) for score in scores]
    writer.writerows({name: for_csv(value) for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode(), private=private)
