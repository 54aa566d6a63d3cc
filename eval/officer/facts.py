"""What a run's statement of privacy is made of, read from the run's own files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.ledgers import Place, Statement, find_ledgers, read_statements
from eval.promise import is_private, logged_epsilon
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.storage.atomic_files import read_json
from pfedmoap.wire.messages import ClientId

AUDIT = "audit.json"
Record = Mapping[str, Any]  # JSON of any shape


@dataclass(frozen=True)
class Spending:
    """What one client has spent.

    Attributes:
        client: The client; -1 stands for all of them together.
        rounds: Rounds that its ledger was charged for; ``None`` where the ledger is elsewhere.
        epsilon: Epsilon of this run alone.
        together: Epsilon of all runs that share the ledger.
        budget: The epsilon that it is held against.
        delta: Delta of both.
        runs: How many runs the ledger holds.
    """

    client: ClientId
    rounds: int | None
    epsilon: float
    together: float
    budget: float
    delta: float
    runs: int = 1


@dataclass(frozen=True)
class Facts:
    """One private run, as its statement needs it.

    Attributes:
        name: The run's name.
        method: Its method.
        data: Its data.
        round: Its last complete round.
        rounds: Rounds that its configuration asks for.
        guarantee: What it states of itself, ``privacy.json``.
        spent: What each client has spent, in the order of ids.
        reported: Whether spending is what sites reported, their ledgers being with them.
        sat_out: How many times a client sat out because its budget was spent.
        audit: The record of its audit; ``None`` where it was not audited.
    """

    name: str
    method: str
    data: str
    round: int
    rounds: int
    guarantee: Record
    spent: tuple[Spending, ...]
    reported: bool
    sat_out: int
    audit: Record | None

    @property
    def mechanism(self) -> Record:
        """The mechanism and its numbers."""
        found: Record = self.guarantee["mechanism"]
        return found

    @property
    def largest(self) -> Spending:
        """The client that has spent most."""
        return max(self.spent, key=lambda one: one.together)


def read_facts(folder: Path, first: Mapping[ClientId, int] | None = None) -> Facts:
    """Read a run.

    Args:
        folder: Its directory.
        first: How many of the first runs in a client's ledger count; all, if it says nothing.

    Raises:
        RunError: It is no private run, has no complete round, or a file of it is damaged.
        PrivacyError: A ledger is damaged.
    """
    run = RunDirectory(folder)
    config = run.config
    if not is_private(config):
        raise RunError(
            f"{folder} promises no privacy (--privacy {config['privacy']['name']}): there is "
            "nothing to state. Expected a run with --privacy dpsgd, release or central"
        )
    stated = run.whole("privacy.json")
    if run.round == 0 or not stated.exists():
        raise RunError(f"{folder} has no complete round yet: there is nothing to state")
    records = run.metrics()
    guarantee = read_json(stated)
    spent, reported = _spent(folder, guarantee, records, first)
    audit = audit_of(folder)
    return Facts(
        name=folder.resolve().name,
        method=str(config["method"]["name"]),
        data=str(read_json(folder / "task.json")["data"]),
        round=run.round,
        rounds=int(config["rounds"]["rounds"]),
        guarantee=guarantee,
        spent=spent,
        reported=reported,
        sat_out=sum(len(record.get("sat_out", {})) for record in records),
        audit=read_json(audit) if audit.exists() else None,
    )


def audit_of(folder: Path) -> Path:
    """Where ``pfedmoap audit RUN`` leaves its record of a private run."""
    return RunDirectory(folder).layout.unchecked_private_part / AUDIT


def ledgers_of(folder: Path) -> Place | None:
    """Where a run's ledgers are; ``None`` where it has none here, as at a federation's server."""
    try:
        return find_ledgers(folder)
    except RunError:
        return None


def _spent(
    folder: Path,
    guarantee: Record,
    records: list[dict[str, Any]],
    first: Mapping[ClientId, int] | None,
) -> tuple[tuple[Spending, ...], bool]:
    place = ledgers_of(folder)
    if place is not None:
        found = (_of_ledger(one, place) for one in read_statements(place.folder, first=first))
        return tuple(one for one in found if one is not None), False
    delta, budget = float(guarantee["mechanism"]["delta"]), float(guarantee["epsilon_budget"])
    logged = logged_epsilon(records)
    if not logged:
        raise RunError(
            f"{folder} has neither ledgers nor figures of what was spent: use the folder that it "
            "was trained in"
        )
    spent = tuple(
        Spending(client, None, epsilon, epsilon, budget, delta)
        for client, epsilon in sorted(logged.items())
    )
    return spent, True


def _of_ledger(statement: Statement, place: Place) -> Spending | None:
    for account, epsilon in zip(statement.accounts, statement.spent, strict=True):
        if account.run == place.run:
            return Spending(
                statement.client,
                len({charge.round for charge in account.charges}),
                epsilon,
                statement.total,
                account.epsilon,
                statement.delta,
                len(statement.accounts),
            )
    return None
