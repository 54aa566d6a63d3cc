"""Which runs are private, and the terminal's lines about their guarantee and what is spent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record
from pfedmoap.storage.strict_json import number
from pfedmoap.wire.messages import ClientId


def is_private(config: Mapping[str, Any]) -> bool:
    """Whether a run of a configuration, given by section, is differentially private."""
    return bool(config.get("privacy", {}).get("name", "none") != "none")


def spent_epsilon(records: Sequence[Record]) -> dict[ClientId, float]:
    """Privacy loss of each client after its last round, from a run's metrics.

    Raises:
        RunError: The metrics are damaged.
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
    return (
        f"privacy spent so far: epsilon {max(epsilon.values(), default=0.0):.4g} of "
        f"{statement['epsilon_budget']:g} (the largest of {len(epsilon)} clients'), "
        f"at delta {statement['mechanism']['delta']:g}"
    )
