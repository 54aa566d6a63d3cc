"""What a site keeps between rounds, in its own folder; it survives every restart.

A site learns only in the next order whether its last update was admitted. It therefore keeps two
states: the one of its last admitted update, and the one after the update that it sent since. The
order's ``committed`` round says which of them counts, so that a round that the server lost, refused
or runs again leaves no trace. Where the server's own record is older than what was admitted before
(it was restored from a copy), the site's state is the newer one, and wins.
"""

import os
from collections.abc import Callable
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
_LASTING = "lasting-{round:06d}.safetensors"
_PARTS = ("admitted", "sent", "lasting")  # entries of the index


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
        index, taken = self._read(), self._taken()
        admitted = index.admitted
        if index.sent is not None and index.sent.round <= committed:
            admitted = index.sent
        elif index.lasting is not None:
            merged = self.load(committed) or {}
            before = 0 if admitted is None else admitted.round
            admitted = self._write(_KEPT, before or index.lasting.round, merged, taken)
        sent = self._write(_STATE, round, local, taken)
        kept = self._write(_LASTING, round, lasting, taken) if lasting else None
        self._commit(_Index(admitted, sent, kept, charges))

    def rewrite(self, change: Callable[[Arrays], Arrays]) -> int:
        """Change all kept states, and delete the files of the old ones; for erasure.

        Args:
            change: From a state to a new one; to the same arrays where it changes nothing.

        Returns:
            How many states were changed.
        """
        index, taken = self._read(), self._taken()
        changed: list[_Entry] = []

        def rewritten(entry: _Entry | None) -> _Entry | None:
            old = {} if entry is None else self._load(entry)
            new = change(old)
            same = new.keys() == old.keys() and all(new[name] is old[name] for name in new)
            if entry is None or same:
                return entry
            changed.append(self._write(_STATE, entry.round, new, taken))
            return changed[-1]

        admitted, sent, lasting = map(rewritten, (index.admitted, index.sent, index.lasting))
        if changed:
            self._commit(_Index(admitted, sent, lasting, index.charges))
        return len(changed)

    def _load(self, entry: _Entry) -> Arrays:
        return read_state(self.folder / entry.file, Owner(self.client, entry.round), entry.sha256)

    def _taken(self) -> set[str]:
        """Files that the index names, which must stay as they are until it names others."""
        index = self._read()
        entries = [getattr(index, part) for part in _PARTS]
        return {entry.file for entry in entries if entry is not None}

    def _write(self, name: str, round: int, arrays: Arrays, taken: set[str]) -> _Entry:
        """Write a state under a name that is not taken: a round may come twice."""
        file = name.format(round=round)
        while file in taken:
            file = f"again-{file}"
        taken.add(file)
        owner = Owner(self.client, round)
        return _Entry(round, file, write_state(self.folder / file, arrays, owner, private=True))

    def _commit(self, index: _Index) -> None:
        record: dict[str, Any] = {"client": self.client, "charges": index.charges}
        for name in _PARTS:
            entry: _Entry | None = getattr(index, name)
            record[name] = None if entry is None else vars(entry)
        write_json(self.folder / FILE, record, private=True)
        used = self._taken()
        remove_files(
            self.folder, (), lambda name: name.endswith(".safetensors") and name not in used
        )

    def _read(self) -> _Index:
        file = self.folder / FILE
        try:
            record = fields(read_strict(file), ("client", "charges", "admitted", "sent", "lasting"))
            if integer(record["client"], "client") != self.client:
                raise ValueError(f"it is of client {record['client']}, expected {self.client}")
            entries = {name: _entry(record[name]) for name in _PARTS}
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
