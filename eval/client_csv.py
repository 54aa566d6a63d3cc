"""The table of clients as CSV, one line a client."""

import csv
import io
from dataclasses import asdict, fields
from pathlib import Path

from eval.accuracy import ClientScore
from eval.escaping import for_csv
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.wire.messages import ClientId

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


def read_client_csv(path: Path) -> tuple[ClientScore, ...]:
    """Read the scores of a finished run."""
    with path.open(newline="") as file:
        return tuple(
            ClientScore(
                client=ClientId(int(row["client"])),
                domain=row["domain"] or None,
                train_images=int(row["train_images"]),
                test_images=int(row["test_images"]),
                accuracy=float(row["accuracy"]),
                macro_f1=float(row["macro_f1"]),
                ece=float(row["ece"]),
                global_accuracy=float(shared) if (shared := row["global_accuracy"]) else None,
                unseen=row["unseen"] == "True",
            )
            for row in csv.DictReader(file)
        )
