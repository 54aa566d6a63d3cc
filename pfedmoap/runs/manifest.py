"""A run's manifest: the files of its last complete round, and its privacy ledgers' charges.

It is the first file that a run writes, so that a folder with a valid one is a run of this package;
one that lost it is not taken for a new run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.storage.own_files import refuse_link
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.strict_json import fields, integer, number, read_strict
from pfedmoap.wire.messages import ClientId

FILE = "checkpoint.json"
STATE = re.compile(r"round-(\d{6,9})\.safetensors")
CLIENT = re.compile(r"\d{4,9}")


@dataclass(frozen=True)
class Manifest:
    """The last complete round.

    Attributes:
        round: Its number; 0 before the first.
        server: File of the server's state, relative to the run; ``None`` before the first round.
        clients: File of each client's state; clients without a state are absent.
        charges: How many charges each client's privacy ledger held at that time; empty in runs
            without ledgers, and in those of versions that did not write it.
        privacy: State of the privatizer's server side, by name.
    """

    round: int = 0
    server: str | None = None
    clients: Mapping[ClientId, str] = field(default_factory=dict)
    charges: Mapping[ClientId, int] = field(default_factory=dict)
    privacy: Mapping[str, float] = field(default_factory=dict)

    @property
    def files(self) -> frozenset[str]:
        """All state files of the round, relative to the run."""
        return frozenset(self.clients.values()) | ({self.server} if self.server else frozenset())

    @property
    def shown(self) -> "Manifest":
        """Return its public part, which says nothing about participants."""
        return replace(self, clients={}, charges={})


def state_file(round: int) -> str:
    """Name of a state file that a round writes."""
    return f"round-{round:06d}.safetensors"


def read_manifest(run: Path) -> Manifest | None:
    """Read a run's manifest; ``None`` where the folder has none.

    Raises:
        RunError: It is damaged, or another program's.
    """
    file = run / FILE
    refuse_link(file)
    try:
        return _parse(read_strict(file))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise RunError(f"{run} is no folder; choose another one") from error
    except ValueError as error:
        raise RunError(
            f"{file} is damaged, or is not the manifest of a run ({error}). Restore it from a "
            "copy, or choose another folder"
        ) from error


def write_manifest(run: Path, manifest: Manifest, *, private: bool = False) -> None:
    """Replace a run's manifest; this commits the round."""
    record: dict[str, Any] = {  # JSON
        "round": manifest.round,
        "server": manifest.server,
        "clients": {str(client): file for client, file in manifest.clients.items()},
    }
    if manifest.charges:
        record["charges"] = {str(client): count for client, count in manifest.charges.items()}
    if manifest.privacy:
        record["privacy"] = dict(manifest.privacy)
    write_json(run / FILE, record, private=private)


def _parse(record: Any) -> Manifest:  # JSON of any shape
    fields(record, ("round", "server", "clients"), ("charges", "privacy"))
    round = integer(record["round"], "round")
    server = record["server"]
    if (server is None) != (round == 0):
        raise ValueError(f"round {round} with server state {server!r}")
    if server is not None and server != f"server/{state_file(round)}":
        raise ValueError(f"server is {server!r}, expected server/{state_file(round)}")
    clients = {}
    for client, file in _by_client(record["clients"]).items():
        found = re.fullmatch(f"clients/{client:04d}/{STATE.pattern}", str(file))
        if not found or not 1 <= int(found[1]) <= round:
            raise ValueError(f"client {client} has state {file!r}")
        clients[client] = str(file)
    charges = {
        client: integer(count, f"charges of client {client}")
        for client, count in _by_client(record.get("charges", {})).items()
    }
    kept = record.get("privacy", {})
    privacy = {name: number(value, f"privacy {name}") for name, value in fields(kept, kept).items()}
    return Manifest(round, server, clients, charges, privacy)


def _by_client(record: Any) -> dict[ClientId, Any]:  # JSON of any shape
    if not isinstance(record, dict):
        raise ValueError(f"expected an object by client, got {record!r:.60}")
    if wrong := [name for name in record if not re.fullmatch(r"0|[1-9]\d{0,8}", name)]:
        raise ValueError(f"no client: {wrong[0]!r:.60}")
    return {ClientId(int(name)): value for name, value in record.items()}
