"""Results of a finished run, read from its directory without loading any model."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.accuracy import Summary
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import read_json
from pfedmoap.wire.messages import ClientId

GENERALISATION = "generalisation.json"


@dataclass(frozen=True)
class RoundFigures:
    """One evaluated round.

    Attributes:
        round: Counted from 1.
        summary: Figures over clients.
        train_seconds: Spent on this and all rounds before it, and by the server before the
            first one, without evaluation.
        down_bytes: Sent to clients in this and all rounds before it.
        up_bytes: The same from clients.
        queries: To a black-box model in this and all rounds before it; 0 without one.
    """

    round: int
    summary: Summary
    train_seconds: float
    down_bytes: int
    up_bytes: int
    queries: int = 0


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        config: Its configuration.
        clients: How many clients there are.
        curve: Its evaluated rounds.
        accuracy: Personalised accuracy after the last round, of clients that may take part.
        generalisation: What `eval.protocols.figures_by` found; ``None`` where nothing was tested.
    """

    config: Record
    clients: int
    curve: tuple[RoundFigures, ...]
    accuracy: Mapping[ClientId, float]
    generalisation: Mapping[str, Any] | None

    @property
    def last(self) -> RoundFigures:
        """The last round: what every table shows."""
        return self.curve[-1]

    @property
    def down_bytes_per_round(self) -> float:
        """Payload to all clients of a round, mean over rounds."""
        return self.last.down_bytes / self.last.round

    @property
    def up_bytes_per_round(self) -> float:
        """Payload from all clients of a round, mean over rounds."""
        return self.last.up_bytes / self.last.round


def is_finished(folder: Path) -> bool:
    """Whether a run is finished: the table of clients is written last."""
    return RunDirectory(folder).layout.where("per_client.csv").exists()


def read_result(folder: Path) -> RunResult:
    """Read a finished run.

    Raises:
        RunError: It is missing, damaged, not finished, or the public part of a private run.
    """
    run = RunDirectory(folder)
    config, task, records = run.config, run.task, run.metrics()
    curve = _curve(records)
    if records and records[-1]["round"] != run.round:
        raise RunError(
            f"{folder} has lost the line of round {run.round} in its metrics, and with it the "
            "figures; `pfedmoap evaluate` makes them again from the state"
        )
    if not curve or not is_finished(folder) or curve[-1].round != records[-1]["round"]:
        raise RunError(f"{folder} is not finished; continue it with --resume")
    extra = run.whole(GENERALISATION)
    unseen = _unseen(run.whole("per_client.csv"))
    return RunResult(
        config=config,
        clients=len(task["clients"]),
        curve=curve,
        accuracy={
            ClientId(int(client)): value
            for client, value in records[-1]["accuracy"].items()
            if int(client) not in unseen
        },
        generalisation=read_json(extra) if extra.exists() else None,
    )


def _curve(records: Sequence[Record]) -> tuple[RoundFigures, ...]:
    points = []
    seconds, down, up, queries = 0.0, 0, 0, 0
    for record in records:
        seconds += record["train_seconds"]
        down += sum(_total(each["down_bytes"]) for each in record["traffic"])
        up += sum(_total(each["up_bytes"]) for each in record["traffic"])
        queries += _queries(record)
        if "evaluation" in record:
            summary = Summary(**record["evaluation"])
            figures = RoundFigures(record["round"], summary, seconds, down, up, queries)
            points.append(figures)
    return tuple(points)


def _total(sizes: Mapping[str, Any]) -> int:
    return sum(int(size) for size in sizes.values())


def _queries(record: Record) -> int:
    return sum(int(each.get("queries", 0)) for each in record.get("costs", {}).values())


def _unseen(table: Path) -> set[int]:
    """Clients that were held out, from the table of clients."""
    with table.open(newline="") as file:
        return {int(row["client"]) for row in csv.DictReader(file) if row["unseen"] == "True"}
