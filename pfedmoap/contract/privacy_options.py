"""The interface of privacy options, which ``--privacy NAME`` selects."""

from pathlib import Path
from typing import Protocol

from pfedmoap.client.privatizer import PlannedTraining, Privatizer
from pfedmoap.contract.method import AnyMethod


class PrivacyOptions(Protocol):
    """Options that make a privatizer, selected by ``--privacy NAME``."""

    def privatizer(
        self, method: AnyMethod, planned: PlannedTraining, ledgers: Path | None
    ) -> Privatizer:
        """Make the privatizer of one run.

        Args:
            method: The method; one without an analysis is refused.
            planned: The training that the budget has to cover.
            ledgers: Folder where each client keeps its ledger; ``None`` keeps them in memory.

        Raises:
            PrivacyError: The guarantee would be void; the message says why.
        """
        ...
