"""Letting clients into a round: charge each one's ledger first, and leave out who cannot pay."""

import logging
from collections.abc import Collection, Sequence

from pfedmoap.errors import PrivacyError
from pfedmoap.gradients import Authorisation
from pfedmoap.types import ClientId
from privacy.ledger import Ledgers

logger = logging.getLogger(__name__)


def charge_cohort(
    ledgers: Ledgers, cohort: Sequence[ClientId], round: int, known: Collection[ClientId]
) -> Authorisation:
    """Charge a round to every client of a cohort.

    Args:
        ledgers: The clients' ledgers.
        cohort: Who was drawn.
        round: The round.
        known: Clients that took part in an earlier round.

    Returns:
        Who may train; the others' budgets do not suffice, or they took part often enough.

    Raises:
        PrivacyError: A ledger is damaged or foreign, or a client that took part has none.
    """
    budget = ledgers.budget
    for client in sorted(cohort):
        if client in known and not ledgers.charges(client):
            raise PrivacyError(
                f"client {client} took part before round {round}, but its ledger "
                f"({ledgers.folder}) holds nothing; restore it: what was spent stays spent"
            )
    spent: dict[ClientId, float] = {}
    sat_out: dict[ClientId, str] = {}
    for client in sorted(cohort):
        if budget.rounds is not None and len(ledgers.charges(client)) >= budget.rounds:
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
    return Authorisation(tuple(spent), sat_out, spent)
