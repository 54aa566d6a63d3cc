"""Which runs are private, and the terminal's lines about their guarantee and what is spent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.ledgers import charged_epsilon
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record
from pfedmoap.storage.strict_json import number
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.central import EVERYBODY


def is_private(config: Mapping[str, Any]) -> bool:
    """Whether a run of a configuration, given by section, is differentially private."""
    return bool(config.get("privacy", {}).get("name", "none") != "none")


def spent_epsilon(run: RunDirectory) -> dict[ClientId, float]:
    """Return each client's privacy loss in a run, in its metrics or its ledgers, the larger.

    Ledgers are charged before a round, so that they hold more than the metrics after a round that
    was killed. They may lie elsewhere, or be missing from a copy of the run.

    Args:
        run: The run.

    Returns:
        Epsilon by client. Client -1 stands for all of them if the metrics name none.

    Raises:
        RunError: The metrics are damaged.
        PrivacyError: The ledgers are damaged.
    """
    spent = logged_epsilon(run.metrics())
    charged = charged_epsilon(run.path)
    everybody = charged.pop(EVERYBODY, None)
    if everybody is not None:
        charged = dict.fromkeys(spent or [EVERYBODY], everybody)
    clients = sorted({*spent, *charged})
    return {client: max(spent.get(client, 0.0), charged.get(client, 0.0)) for client in clients}


def logged_epsilon(records: Sequence[Record]) -> dict[ClientId, float]:
    """Read what each client has spent by its last round, from a run's metrics.

    Raises:
        RunError: A value is no number.
    """
    spent: dict[ClientId, float] = {}
    for record in records:
        for client, epsilon in record.get("epsilon", {}).items():
            try:
                spent[ClientId(int(client))] = number(epsilon, "epsilon")
            except ValueError as error:
                raise RunError(
                    f"the metrics of round {record['round']} are damaged: client {client}: {error}"
                ) from error
    return spent


def promised(statement: Record, file: Path | None) -> str | None:
    """Make the line that states a run's guarantee before it starts.

    Args:
        statement: What its privatizer states; see `pfedmoap.client.privatizer.Privatizer.describe`.
        file: Where the statement is written; ``None`` where it is not.

    Returns:
        A line, or ``None`` for a run without a guarantee.
    """
    if not statement:
        return None
    mechanism = statement["mechanism"]
    where = "" if file is None else f"; in full: {file}"
    return (
        f"privacy: {mechanism['name']}, epsilon {statement['epsilon_budget']:g} at delta "
        f"{mechanism['delta']:g} for {statement['unit']}, planned for {statement['rounds_planned']}"
        f" rounds with noise multiplier {mechanism['noise_multiplier']:.4g}{where}"
        + "".join(f"\n  CAUTION: {caveat}" for caveat in statement["caveats"])
    )


def spent(statement: Record, epsilon: Mapping[ClientId, float]) -> str | None:
    """Make the line that states what a run has spent so far.

    Args:
        statement: What its privatizer states.
        epsilon: Privacy loss of each client; see `spent_epsilon`.

    Returns:
        A line, or ``None`` for a run without a guarantee.
    """
    if not statement:
        return None
    whose = "of every client" if EVERYBODY in epsilon else f"the largest of {len(epsilon)} clients'"
    return (
        f"privacy spent so far: epsilon {max(epsilon.values(), default=0.0):.4g} of "
        f"{statement['epsilon_budget']:g} ({whose}), "
        f"at delta {statement['mechanism']['delta']:g}"
    )
