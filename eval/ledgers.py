"""Read what clients have spent of their privacy budgets, by run and in total."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.composition import refuse_different_units, total_epsilon
from privacy.ledgers.ledger import read_run_id
from privacy.ledgers.ledger_file import THIS_RUN, Account, read_folder


@dataclass(frozen=True)
class Place:
    """A folder of ledgers.

    Attributes:
        folder: The folder with one file a client.
        run: The id of the run that was asked about; ``None`` for a folder of several runs.
    """

    folder: Path
    run: str | None


@dataclass(frozen=True)
class Statement:
    """One client's ledger.

    Attributes:
        client: The client; -1 stands for all of them together.
        accounts: What each run has charged.
        spent: Epsilon of each run alone, each at its own delta.
        total: Epsilon of all runs together at ``delta``.
        epsilon: The budget that the total is compared with.
        delta: Delta of the total.
    """

    client: ClientId
    accounts: tuple[Account, ...]
    spent: tuple[float, ...]
    total: float
    epsilon: float
    delta: float

    @property
    def left(self) -> float:
        """Budget minus total; not itself a budget that a further run could spend."""
        return max(self.epsilon - self.total, 0.0)


def find_ledgers(path: Path) -> Place:
    """Find the ledgers of a run, or those in a folder.

    Args:
        path: A run directory, or a folder that runs share (``privacy.ledgers``).

    Raises:
        RunError: There are none.
    """
    folder, run = path, None
    if (path / "config.json").exists():
        own = path / "ledgers"
        shared = RunDirectory(path).config.get("privacy", {}).get("ledgers")
        folder = own if shared is None else Path(shared).expanduser()
        run = THIS_RUN if shared is None else read_run_id(own)
    if not any(read_folder(folder).values()):
        raise RunError(
            f"{path} has no ledgers ({folder} holds none); expected the folder of a private run "
            "that has begun, or one that was given as --privacy.ledgers"
        )
    return Place(folder, run)


def charged_epsilon(run: Path) -> dict[ClientId, float]:
    """Return what each client had spent when a run charged it last.

    Args:
        run: The run's folder.

    Returns:
        Epsilon of all runs that share the ledgers up to then; empty where there are no ledgers.

    Raises:
        PrivacyError: A ledger is damaged.
    """
    try:
        place = find_ledgers(run)
    except RunError:
        return {}
    return {
        client: max(charge.epsilon for charge in account.charges)
        for client, accounts in read_folder(place.folder).items()
        for account in accounts
        if account.run == place.run and account.charges
    }


def read_statements(
    folder: Path,
    epsilon: float | None = None,
    delta: float | None = None,
    first: Mapping[ClientId, int] | None = None,
) -> tuple[Statement, ...]:
    """Read every client's ledger in a folder and compute totals.

    Args:
        folder: The folder.
        epsilon: Budget to hold the totals against; ``None`` takes that of each client's last run.
        delta: Delta of the totals; ``None`` takes that of each client's last run.
        first: How many of its first runs count, for clients of which not all do.

    Raises:
        PrivacyError: A ledger is damaged, or the runs of the folder have no common total.
    """
    ledgers = {
        client: accounts[: (first or {}).get(client)]
        for client, accounts in read_folder(folder).items()
    }
    refuse_different_units(chain.from_iterable(ledgers.values()))
    return tuple(
        _statement(client, accounts, epsilon, delta)
        for client, accounts in ledgers.items()
        if accounts
    )


def _statement(
    client: ClientId, accounts: tuple[Account, ...], epsilon: float | None, delta: float | None
) -> Statement:
    deltas = [float(account.mechanism.get("delta", 0)) for account in accounts]
    at = deltas[-1] if delta is None else delta
    return Statement(
        client,
        accounts,
        tuple(total_epsilon([a], d) for a, d in zip(accounts, deltas, strict=True)),
        total_epsilon(accounts, at),
        accounts[-1].epsilon if epsilon is None else epsilon,
        at,
    )
