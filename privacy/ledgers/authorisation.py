"""Authorise clients for a round by charging their ledgers; clients over budget sit out."""

import logging
from collections.abc import Mapping, Sequence

from pfedmoap.client.privatizer import Authorisation
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger import Ledgers

logger = logging.getLogger(__name__)


def charge_cohort(
    ledgers: Ledgers, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
) -> Authorisation:
    """Charge a round to every client of a cohort, while no other process charges these ledgers.

    Args:
        ledgers: The clients' ledgers.
        cohort: The drawn clients.
        round: The round.
        known: How many charges each client's ledger held when the last round was committed.

    Returns:
        The clients that may train; those over budget or over the cap on rounds may not.

    Raises:
        PrivacyError: A ledger is damaged or foreign, or holds fewer charges than are known.
    """
    with ledgers.locked():
        ledgers.refuse_older(known, cohort, round)
        for client in sorted(cohort):
            ledgers.accounts(client)  # a faulty one stops the round before any client is charged
        return _charge(ledgers, cohort, round)


def _charge(ledgers: Ledgers, cohort: Sequence[ClientId], round: int) -> Authorisation:
    budget = ledgers.budget
    spent: dict[ClientId, float] = {}
    sat_out: dict[ClientId, str] = {}
    for client in sorted(cohort):
        if budget.rounds is not None and ledgers.rounds_charged(client) >= budget.rounds:
            sat_out[client] = (
                f"privacy.max_rounds_per_client is {budget.rounds}, and its ledger holds as many"
            )
            logger.info("round %d: client %d sits out: %s", round, client, sat_out[client])
            continue
        after = ledgers.charge(client, round)
        if after is None:
            so_far = ledgers.spent(client)
            sat_out[client] = (
                f"privacy budget: {so_far:.3f} of epsilon {budget.epsilon:g} is spent, and "
                "another round would exceed it"
            )
            logger.warning("round %d: client %d sits out: %s", round, client, sat_out[client])
        else:
            spent[client] = after
    charges = {client: len(ledgers.charges(client)) for client in spent}
    return Authorisation(tuple(spent), sat_out, spent, charges)
