"""Each client's record of its spent privacy budget, written before anything is spent."""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pfedmoap.errors import PrivacyError
from pfedmoap.storage.atomic_files import target_of_temporary, write_json
from pfedmoap.storage.locks import locked
from pfedmoap.storage.own_files import remove_files
from pfedmoap.storage.strict_json import fields, read_strict, text
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.composition import composed_accounts, refuse_different_units
from privacy.ledgers.ledger_file import (
    NAME,
    THIS_RUN,
    Account,
    Charge,
    file_of,
    read_accounts,
    read_folder,
    write_accounts,
)

LOCK = ".ledgers.lock"
RUN = "run.json"


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


@dataclass
class Ledgers:
    """The ledgers of all clients that train on this machine.

    A round is charged before it begins and never refunded: a crash can only over-count. Nothing
    here is part of a checkpoint, so that resuming a run does not roll a ledger back. Reading,
    charging and writing happen under a lock of the folder, so that concurrent processes lose no
    charges.

    Several runs on the same people keep their ledgers in one shared folder. **The folder is the
    identity**: client 3 of every run that names it is taken for the same person. All their runs
    together then stay within the budget of each, and all protect the same unit.

    **Not covered**: runs on the same data that keep their ledgers elsewhere. They add up, too, and
    only the data's owner can keep that account.

    Attributes:
        budget: Every client's budget.
        folder: Where the run keeps what is its own: its ledgers, one file a client, or with a
            shared folder only its id there. ``None`` keeps this in memory.
        shared: Folder of the ledgers of several runs; ``None`` where the run has its own.
        identity: Under which number the folder knows the only client of this machine, whatever
            numbers the federations that it takes part in give it; ``None`` takes those.
    """

    budget: Budget
    folder: Path | None
    shared: Path | None = None
    identity: ClientId | None = None
    _memory: dict[ClientId, tuple[Account, ...]] = field(default_factory=dict)
    _id: str | None = None
    _checked: bool = False
    _has_charged: bool = False
    _holds: int = 0

    @property
    def place(self) -> Path | None:
        """Where the files are; ``None`` for memory."""
        return self.folder if self.shared is None else self.shared

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the ledgers against other processes; may be nested.

        Raises:
            RunError: Another process holds them for long; the message says which.
        """
        if self.place is None or self._holds:
            yield
            return
        with locked(self.place / LOCK):
            self._holds += 1
            try:
                for folder in {self.place, self.folder or self.place}:
                    remove_files(folder, (), _is_temporary)  # no living process has any
                yield
            finally:
                self._holds -= 1

    def charge(self, client: ClientId, round: int) -> float | None:
        """Charge one round; it is on disk when this returns.

        Args:
            client: The client.
            round: The round.

        Returns:
            Epsilon spent by all runs, including this round, or ``None`` where the budget does not
            suffice; then nothing is charged.

        Raises:
            PrivacyError: The ledger is damaged, or another client's or mechanism's; or the folder
                holds any client's charges by runs that protect another unit.
        """
        with self.locked():
            accounts = self.accounts(client)
            self._refuse_other_units()
            run = self._run_id()
            mine = next((a for a in accounts if a.run == run), self._new_account(run))
            others = tuple(account for account in accounts if account.run != run)
            units = self.budget.units
            trial = (*others, mine.charged(Charge(round, units, 0.0)))
            spent = self._total(trial)
            if not spent <= self.budget.epsilon:
                return None
            self._write(client, (*others, mine.charged(Charge(round, units, spent))))
            self._has_charged = True
            return spent

    def spent(self, client: ClientId) -> float:
        """Epsilon that a client has spent so far, in all runs together."""
        return self._total(self.accounts(client))

    def charges(self, client: ClientId) -> tuple[Charge, ...]:
        """All charges in a client's ledger, of all runs; empty where it never took part.

        Raises:
            PrivacyError: The ledger is damaged, or another client's or mechanism's.
        """
        return tuple(charge for account in self.accounts(client) for charge in account.charges)

    def rounds_charged(self, client: ClientId) -> int:
        """How many charges this run has made; one for each round, or more where some ran again."""
        run = self._id_if_any()
        accounts = self.accounts(client)
        return sum(len(account.charges) for account in accounts if account.run == run)

    def refuse_older(
        self, known: Mapping[ClientId, int], cohort: Collection[ClientId], round: int
    ) -> None:
        """Raise an error for ledgers with fewer charges than the run's checkpoint recorded.

        Args:
            known: How many charges each client's ledger held when the last round was committed.
            cohort: Whose ledgers to check; the first time, all are.
            round: The round that is about to begin.

        Raises:
            PrivacyError: A ledger was lost or rolled back.
        """
        for client in sorted(known):
            if self._checked and client not in cohort:
                continue
            found = len(self.charges(client))
            if found < known[client]:
                raise PrivacyError(
                    f"client {client} took part before round {round}, and its ledger then held "
                    f"{known[client]} charges; now it holds {found or 'nothing'} ({self.place}): "
                    "it was lost or rolled back. Restore it: what was spent stays spent"
                )
        self._checked = True

    def accounts(self, client: ClientId) -> tuple[Account, ...]:
        """What each run has charged a client.

        Raises:
            PrivacyError: The ledger is damaged, or another client's, or this run has charged it
                under another mechanism.
        """
        if self.place is None:
            return self._memory.get(client, ())
        found = read_accounts(self._file(client), self._known_as(client))
        mechanism = self.budget.mechanism
        for account in found:
            if account.run == self._id_if_any() and account.mechanism != dict(mechanism):
                names = {*account.mechanism, *mechanism}
                changed = [n for n in names if account.mechanism.get(n) != mechanism.get(n)]
                raise PrivacyError(
                    f"the ledger {self._file(client)} counts for another mechanism (differing: "
                    f"{', '.join(sorted(changed))}): one run has one mechanism. Choose another run "
                    "folder; --privacy.ledgers adds up runs with different mechanisms"
                )
        return found

    def _refuse_other_units(self) -> None:
        """Check every ledger of a shared folder, of all clients.

        Once is enough: after the first charge others see ours, under the same lock, and refuse.
        """
        if self.shared is None or self._has_charged:
            return
        others = chain.from_iterable(read_folder(self.shared).values())
        refuse_different_units((*others, self._new_account("")))

    def _total(self, accounts: tuple[Account, ...]) -> float:
        mechanism = dict(self.budget.mechanism)
        if all(account.mechanism == mechanism for account in accounts):
            return self.budget.spent(sum(account.units for account in accounts))
        return composed_accounts(accounts, float(mechanism["delta"]))

    def _new_account(self, run: str) -> Account:
        return Account(run, self.budget.epsilon, dict(self.budget.mechanism), ())

    def _write(self, client: ClientId, accounts: tuple[Account, ...]) -> None:
        if self.place is None:
            self._memory[client] = accounts
        else:
            write_accounts(self._file(client), self._known_as(client), accounts)

    def _run_id(self) -> str:
        """The run's id in the ledgers; for a shared folder it is made once, and kept in the run."""
        found = self._id_if_any()
        if found is None:
            found = self._id = uuid.uuid4().hex
            if self.folder is not None:
                write_json(self.folder / RUN, {"run": found})
        return found

    def _id_if_any(self) -> str | None:
        if self.shared is None:
            return THIS_RUN  # the only one here
        if self._id is None and self.folder is not None:
            self._id = read_run_id(self.folder)
        return self._id

    def _file(self, client: ClientId) -> Path:
        assert self.place is not None  # in memory there are no files
        return file_of(self.place, self._known_as(client))

    def _known_as(self, client: ClientId) -> ClientId:
        return client if self.identity is None else self.identity


def read_run_id(folder: Path) -> str | None:
    """Read the id that a run has in shared ledgers from its own folder of ledgers.

    Raises:
        PrivacyError: The file is damaged.
    """
    try:
        return text(fields(read_strict(folder / RUN), ("run",))["run"], "run")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PrivacyError(f"{folder / RUN} is damaged ({error}); restore it") from error


def _is_temporary(name: str) -> bool:
    target = target_of_temporary(name)
    return target is not None and (target == RUN or NAME.fullmatch(target) is not None)
