"""What a site keeps between rounds, in its own folder; it survives every restart.

A site learns only in the next order whether its last update was admitted. It therefore keeps two
states: the one of its last admitted update, and the one after the update that it sent since. The
order's ``committed`` round says which of them counts, so that a round that the server lost, refused
or runs again leaves no trace. Where the server's own record is older than what was admitted before
(it was restored from a copy), the site's state is the newer one, and wins.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.state_files import Owner, read_state, write_state
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.own_files import remove_files
from pfedmoap.storage.strict_json import fields, integer, read_strict, text
from pfedmoap.wire.messages import Arrays, ClientId

FILE = "state.json"
_STATE = "round-{round:06d}.safetensors"
_KEPT = "kept-{round:06d}.safetensors"  # an older state with what outlasts a refusal
_ERASED = "erased-{round:06d}.safetensors"
_LASTING = "lasting-{round:06d}.safetensors"


@dataclass(frozen=True)
class _Entry:
    """One state file."""

    round: int
    file: str
    sha256: str


@dataclass(frozen=True)
class _Index:
    """What ``state.json`` says.

    Attributes:
        admitted: State after the last update that is known to be admitted.
        sent: State after the last update that was sent since.
        lasting: What is kept of `sent` if that update was refused.
        charges: How many charges the privacy ledger held.
    """

    admitted: _Entry | None = None
    sent: _Entry | None = None
    lasting: _Entry | None = None
    charges: int = 0


class SiteState:
    """One site's state in one federation.

    Args:
        folder: Its own folder, readable by its owner only.
        client: The site's number.
    """

    def __init__(self, folder: Path, client: ClientId) -> None:
        self.folder = folder
        self.client = client

    @property
    def charges(self) -> int:
        """How many charges the site's privacy ledger held after its last round."""
        return self._read().charges

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds whose states are kept, oldest first."""
        index = self._read()
        return tuple(entry.round for entry in (index.admitted, index.sent) if entry is not None)

    def load(self, committed: int) -> Arrays | None:
        """Read the state that the site goes on from; changes nothing.

        Args:
            committed: The last round in which the server admitted an update of this site.

        Returns:
            The state; ``None`` before the first admitted update.

        Raises:
            RunError: A file is missing or damaged.
        """
        index = self._read()
        if index.sent is not None and index.sent.round <= committed:
            return self._load(index.sent)
        older = None if index.admitted is None else self._load(index.admitted)
        if index.lasting is None:
            return older
        return {**(older or {}), **self._load(index.lasting)}

    def save(
        self, round: int, committed: int, local: Arrays, lasting: Arrays, charges: int
    ) -> None:
        """Keep a round's state beside the one that it began with.

        Args:
            round: The round.
            committed: As for `load`, in this round.
            local: The new state.
            lasting: What of it is kept even if the update is refused.
            charges: How many charges the site's privacy ledger holds.
        """
        index = self._read()
        admitted = index.admitted
        if index.sent is not None and index.sent.round <= committed:
            admitted = index.sent
        elif index.lasting is not None:
            merged = self.load(committed) or {}
            before = 0 if admitted is None else admitted.round
            admitted = self._write(_KEPT, before or index.lasting.round, merged)
        sent = self._write(_STATE, round, local)
        kept = self._write(_LASTING, round, lasting) if lasting else None
        self._commit(_Index(admitted, sent, kept, charges))

    def replace(self, change: Mapping[int, Arrays]) -> None:
        """Rewrite kept states under new names, and delete the old files; for erasure.

        Args:
            change: New states by the round of those that they replace.
        """
        index = self._read()

        def changed(entry: _Entry | None) -> _Entry | None:
            if entry is None or entry.round not in change:
                return entry
            # Under another name than the old one, so that a kill in between leaves the old one.
            name = _STATE if entry.file.startswith("erased") else _ERASED
            return self._write(name, entry.round, change[entry.round])

        admitted, sent = changed(index.admitted), changed(index.sent)
        self._commit(_Index(admitted, sent, index.lasting, index.charges))

    def states(self) -> dict[int, Arrays]:
        """All states that are kept, by round."""
        index = self._read()
        entries = [entry for entry in (index.admitted, index.sent) if entry is not None]
        return {entry.round: self._load(entry) for entry in entries}

    def _load(self, entry: _Entry) -> Arrays:
        return read_state(self.folder / entry.file, Owner(self.client, entry.round), entry.sha256)

    def _write(self, name: str, round: int, arrays: Arrays) -> _Entry:
        file = name.format(round=round)
        owner = Owner(self.client, round)
        return _Entry(round, file, write_state(self.folder / file, arrays, owner, private=True))

    def _commit(self, index: _Index) -> None:
        record: dict[str, Any] = {"client": self.client, "charges": index.charges}
        for name in ("admitted", "sent", "lasting"):
            entry: _Entry | None = getattr(index, name)
            record[name] = None if entry is None else vars(entry)
        write_json(self.folder / FILE, record, private=True)
        used = {
            entry.file for entry in (index.admitted, index.sent, index.lasting) if entry is not None
        }
        remove_files(
            self.folder, (), lambda name: name.endswith(".safetensors") and name not in used
        )

    def _read(self) -> _Index:
        file = self.folder / FILE
        try:
            record = fields(read_strict(file), ("client", "charges", "admitted", "sent", "lasting"))
            if integer(record["client"], "client") != self.client:
                raise ValueError(f"it is of client {record['client']}, expected {self.client}")
            entries = {name: _entry(record[name]) for name in ("admitted", "sent", "lasting")}
            return _Index(**entries, charges=integer(record["charges"], "charges"))
        except FileNotFoundError:
            if folder_holds_states(self.folder):
                raise RunError(
                    f"{file} is missing, and states are there: restore it from a copy, or move "
                    f"{self.folder} away, after which this site begins anew"
                ) from None
            return _Index()
        except ValueError as error:
            raise RunError(f"{file} is damaged: {error}; restore it from a copy") from error


def folder_holds_states(folder: Path) -> bool:
    """Whether a folder holds state files, so that a missing index is a loss."""
    return folder.is_dir() and any(name.endswith(".safetensors") for name in os.listdir(folder))


def _entry(record: object) -> _Entry | None:
    if record is None:
        return None
    found = fields(record, ("round", "file", "sha256"))
    file = text(found["file"], "the file")
    if Path(file).name != file or not file.endswith(".safetensors"):
        raise ValueError(f"{file!r:.60} is no state file")
    return _Entry(integer(found["round"], "the round", 1), file, text(found["sha256"], "sha256"))
