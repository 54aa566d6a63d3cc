"""What a tracker may be told of a run: what anybody may read in its folder, and no more.

A run without privacy tells all its metrics: its per-client figures are the server-side evaluation
of a simulation, or what sites report to the server of a federation. A private run tells what is
public in its folder (`pfedmoap.runs.layout`): budgets, bytes, refused uploads; no accuracy, loss or
count of images, and none of its pictures.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from eval.api.rows import Row, row_of
from eval.promise import logged_epsilon
from pfedmoap.runs.commit import current_manifest
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record, read_public_rounds
from pfedmoap.storage.atomic_files import read_json

FIELDS = tuple(row_of({"round": 0}))
"""Columns of `eval.api.rows.row_of`: the figures of a round."""

TABLE = "per_client.csv"


def public_rounds(run: Path, after: int) -> list[Record]:
    """Read the public lines of a run's complete rounds.

    Args:
        run: The run.
        after: Only rounds behind this one.

    Raises:
        RunError: They are damaged.
    """
    manifest = current_manifest(run)
    rounds = read_public_rounds(RunDirectory(run).layout, manifest.round, manifest.log_lines)
    return [record for record in rounds if after < record["round"] <= manifest.round]


def scalars(record: Record) -> Row:
    """Return the figures of a round that there are: name and number."""
    return {name: value for name, value in row_of(record).items() if value is not None}


def client_rows(record: Record) -> list[Row]:
    """Make a round's table of clients: one row for each of which anything is known."""
    traffic = {str(one["client"]): one for one in record.get("traffic", [])}
    accuracy, loss = record.get("accuracy", {}), record.get("train_loss", {})
    epsilon = record.get("epsilon", {})
    return [
        {
            "round": record["round"],
            "client": int(client),
            "accuracy": accuracy.get(client),
            "train_loss": loss.get(client),
            "down_bytes": _total(traffic.get(client), "down_bytes"),
            "up_bytes": _total(traffic.get(client), "up_bytes"),
            "epsilon": epsilon.get(client),
        }
        for client in sorted({*accuracy, *loss, *traffic, *epsilon}, key=int)
    ]


def final_table(run: Path) -> list[Row]:
    """Make the table of clients at a run's end: its public part.

    Args:
        run: A finished run.

    Returns:
        One row a client: what ``per_client.csv`` says where that is public, the bytes of all
        rounds, how many of them it took part in, and the epsilon that it has spent.
    """
    records = public_rounds(run, 0)
    known: dict[int, Row] = {}
    for line in _public_table(RunDirectory(run)):
        known[int(line["client"])] = dict(line) | {"client": int(line["client"])}
    for record in records:
        for row in client_rows(record):
            mine = known.setdefault(row["client"], {"client": row["client"]})
            for name in ("down_bytes", "up_bytes"):
                if row[name] is not None:
                    mine[name] = mine.get(name, 0) + row[name]
        for client in record.get("cohort", []):
            mine = known.setdefault(int(client), {"client": int(client)})
            mine["rounds"] = mine.get("rounds", 0) + 1
    for whom, epsilon in logged_epsilon(records).items():
        known.setdefault(int(whom), {"client": int(whom)})["epsilon"] = epsilon
    return [known[client] for client in sorted(known)]


def config_text(config: Mapping[str, Any]) -> str:
    """Write a resolved configuration as YAML, as ``--config`` reads it."""
    return yaml.safe_dump(dict(config), sort_keys=True, allow_unicode=True)


def flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """List a configuration's options as ``section.option``."""
    for section in sorted(config):
        for option, value in sorted(config[section].items()):
            yield f"{section}.{option}", value


def statement(run: Path) -> Mapping[str, Any]:
    """Read the statement of a run's guarantee, which is public; empty where there is none."""
    file = run / "privacy.json"
    found: Mapping[str, Any] = read_json(file) if file.exists() else {}
    return found


def shows_results(run: Path) -> bool:
    """Whether results of evaluation, and pictures of them, are public."""
    return not RunDirectory(run).layout.is_private(TABLE)


def csv_text(rows: Sequence[Row], fields: Sequence[str] | None = None) -> str:
    """Write rows as CSV; a field without a value is empty.

    Args:
        rows: The rows.
        fields: The columns; ``None`` takes all that a row has, in the order of their appearance.
    """
    names = list(fields or dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _public_table(run: RunDirectory) -> list[dict[str, str]]:
    if run.layout.is_private(TABLE) or not (run.path / TABLE).exists():
        return []
    with run.whole(TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def _total(traffic: Mapping[str, Any] | None, way: str) -> int | None:
    return None if traffic is None else sum(traffic[way].values())
