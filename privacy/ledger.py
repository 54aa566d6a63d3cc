"""Each client's own record of what it has spent, written before anything is spent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from pfedmoap.errors import PrivacyError, RunError
from pfedmoap.storage import read_json, write_json
from pfedmoap.types import ClientId


@dataclass(frozen=True)
class Budget:
    """What a client may spend in a run, and how spending adds up.

    Attributes:
        epsilon: Epsilon that is never exceeded.
        mechanism: All that the guarantee depends on, as JSON; a ledger of another one is refused.
        spent: Epsilon of a number of charged units.
        units: Units that one round charges: noisy steps, or releases.
        rounds: Charges after which a client sits out, whatever is left; none sets no limit.
    """

    epsilon: float
    mechanism: Mapping[str, Any]  # JSON of any shape
    spent: Callable[[int], float]
    units: int
    rounds: int | None = None


@dataclass(frozen=True)
class Charge:
    """What one round has cost.

    Attributes:
        round: The round.
        units: Units charged for it.
    """

    round: int
    units: int


@dataclass
class Ledgers:
    """The ledgers of all clients that train on this machine.

    A round is charged before it begins and never refunded: a crash can only over-count. Nothing
    here is part of a checkpoint, so that resuming a run does not roll a ledger back.

    **Not covered**: a ledger counts one run. What several runs on the same data release adds up,
    and only the data's owner can keep that account.

    Attributes:
        budget: Every client's budget.
        folder: Where ledgers are kept, one file a client; ``None`` keeps them in memory.
    """

    budget: Budget
    folder: Path | None
    _memory: dict[ClientId, tuple[Charge, ...]] = field(default_factory=dict)

    def charge(self, client: ClientId, round: int) -> float | None:
        """Charge one round, and have it on the disk before returning.

        Args:
            client: The client.
            round: The round.

        Returns:
            Epsilon spent including this round, or ``None`` where the budget does not suffice; then
            nothing is charged.

        Raises:
            PrivacyError: The ledger is damaged, or another client's or mechanism's.
        """
        charges = (*self.charges(client), Charge(round, self.budget.units))
        spent = self.budget.spent(sum(charge.units for charge in charges))
        if not spent <= self.budget.epsilon:
            return None
        self._write(client, charges)
        return spent

    def spent(self, client: ClientId) -> float:
        """Epsilon that a client has spent so far."""
        return self.budget.spent(sum(charge.units for charge in self.charges(client)))

    def charges(self, client: ClientId) -> tuple[Charge, ...]:
        """Read a client's ledger; empty where it never took part.

        Raises:
            PrivacyError: The ledger is damaged, or another client's or mechanism's.
        """
        if self.folder is None:
            return self._memory.get(client, ())
        file = self._file(client)
        if not file.exists():
            return ()
        try:
            record = read_json(file)
            owner, mechanism = record["client"], record["mechanism"]
            charges = tuple(Charge(int(c["round"]), int(c["units"])) for c in record["charges"])
            if any(charge.units < 1 for charge in charges):
                raise ValueError("a charge is not positive")
        except (RunError, KeyError, TypeError, ValueError) as error:
            raise PrivacyError(
                f"the ledger {file} is damaged ({error}); restore it: without it nobody knows "
                "what this client has spent"
            ) from error
        if owner != client:
            raise PrivacyError(f"the ledger {file} belongs to client {owner}, expected {client}")
        if mechanism != dict(self.budget.mechanism):
            changed = sorted(
                key
                for key in {*mechanism, *self.budget.mechanism}
                if mechanism.get(key) != self.budget.mechanism.get(key)
            )
            raise PrivacyError(
                f"the ledger {file} counts for another mechanism (differing: {', '.join(changed)})"
            )
        return charges

    def _write(self, client: ClientId, charges: tuple[Charge, ...]) -> None:
        if self.folder is None:
            self._memory[client] = charges
            return
        units = accumulate(charge.units for charge in charges)
        record = {
            "client": client,
            "mechanism": dict(self.budget.mechanism),
            "charges": [
                {"round": charge.round, "units": charge.units, "epsilon": self.budget.spent(total)}
                for charge, total in zip(charges, units, strict=True)
            ],
        }
        write_json(self._file(client), record)

    def _file(self, client: ClientId) -> Path:
        assert self.folder is not None  # in memory there are no files
        return self.folder / f"{client:04d}.json"
