"""A run's manifest: the files of its last complete round, and its privacy ledgers' charges.

It is the first file that a run writes, so that a folder with a valid one is a run of this package;
one that lost it is not taken for a new run.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.checksums import LINE_DIGITS
from pfedmoap.runs.log import METRICS, PRIVATE_METRICS
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.digests import sha256
from pfedmoap.storage.own_files import refuse_link
from pfedmoap.storage.strict_json import fields, integer, items, number, read_strict
from pfedmoap.wire.messages import ClientId

CLIENTS = "clients"
SERVER = "server"
FILE = "checkpoint.json"
PREVIOUS = "checkpoint-previous.json"
STATE = re.compile(r"round-(\d{6,9})\.safetensors")
CLIENT = re.compile(r"\d{4,9}")
SHARD = re.compile(r"shard-(\d{6,9})(?:-(\d{4}))?\.safetensors")


@dataclass(frozen=True)
class Manifest:
    """The last complete round.

    Attributes:
        round: Its number; 0 before the first.
        server: File of the server's state, relative to the run; ``None`` before the first round.
        shards: Files with the clients' states, the oldest first; see `pfedmoap.runs.shard`.
        clients: State file of each client that an earlier version wrote, one file a client.
        charges: How many charges each client's privacy ledger held at that time; empty in runs
            without ledgers, and in those of versions that did not write it.
        privacy: State of the privatizer's server side, by name.
        sha256: Checksum of each file that decides something, named as in an undivided run; empty
            in runs of versions that did not write it.
        lines: Checksums of the lines of each log, in their order; see `sha256_of_line`.
        rows: Files with what the server's state holds of single clients, the oldest first; the
            server's file has the rest then. See `pfedmoap.contract.server_rows`.
        owners: Name of the array of these clients in the server's state; ``None`` without rows.
    """

    round: int = 0
    server: str | None = None
    shards: tuple[str, ...] = ()
    clients: Mapping[ClientId, str] = field(default_factory=dict)
    charges: Mapping[ClientId, int] = field(default_factory=dict)
    privacy: Mapping[str, float] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    owners: str | None = None

    @property
    def sealed(self) -> bool:
        """Whether it has checksums."""
        return bool(self.sha256)

    @property
    def log_lines(self) -> dict[str, tuple[str, ...]]:
        """The same with an empty entry for a log without lines; empty where nothing is known."""
        return {METRICS: (), PRIVATE_METRICS: (), **self.lines} if self.sealed else {}

    @property
    def files(self) -> frozenset[str]:
        """All state files of the round, relative to the run."""
        server = () if self.server is None else (self.server,)
        return frozenset((*self.rows, *self.shards, *self.clients.values(), *server))

    def shown(self, public: Collection[str]) -> "Manifest":
        """Return its public part: nothing about participants, no checksum of a private file.

        Args:
            public: Names of the files that are not private.
        """
        return replace(
            self,
            shards=(),
            clients={},
            charges={},
            sha256={file: found for file, found in self.sha256.items() if file in public},
            lines={file: found for file, found in self.lines.items() if file in public},
        )


def state_file(round: int) -> str:
    """Name of a state file that a round writes."""
    return f"round-{round:06d}.safetensors"


def shard_file(round: int, part: int | None = None, folder: str = CLIENTS) -> str:
    """Name of a shard, relative to an undivided run.

    Args:
        round: The round that writes it.
        part: Which one of several; ``None`` for a round's only one.
        folder: `CLIENTS`, or `SERVER` for what the server holds of clients.
    """
    return f"{folder}/shard-{round:06d}{'' if part is None else f'-{part:04d}'}.safetensors"


def round_of(file: str) -> int:
    """The round that wrote a state file of the server or of one client."""
    return int(file.rsplit("/", 1)[-1][len("round-") : -len(".safetensors")])


def read_manifest(run: Path, name: str = FILE) -> Manifest | None:
    """Read a run's manifest; ``None`` where the folder has none.

    Args:
        run: The run, or its private part.
        name: `FILE`, or `PREVIOUS` for the one before it.

    Raises:
        RunError: It is damaged, or another program's.
    """
    file = run / name
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
            "copy, see what can be saved with `pfedmoap repair RUN`, or choose another folder"
        ) from error


def write_manifest(
    run: Path, manifest: Manifest, name: str = FILE, *, private: bool = False
) -> None:
    """Replace a run's manifest; this commits the round."""
    record: dict[str, Any] = {  # JSON
        "round": manifest.round,
        "server": manifest.server,
        "shards": list(manifest.shards),
    }
    if manifest.owners is not None:
        record["rows"] = {"owners": manifest.owners, "files": list(manifest.rows)}
    if manifest.clients:
        record["clients"] = {str(client): file for client, file in manifest.clients.items()}
    if manifest.charges:
        record["charges"] = {str(client): count for client, count in manifest.charges.items()}
    if manifest.privacy:
        record["privacy"] = dict(manifest.privacy)
    if manifest.sha256:
        record["sha256"] = dict(manifest.sha256)
    if manifest.lines:
        record["lines"] = {file: list(found) for file, found in manifest.lines.items()}
    if manifest.sealed:
        record["check"] = _check(record)
    write_bytes(run / name, json_bytes(record), private=private)


def _check(record: dict[str, Any]) -> str:  # JSON
    """Checksum of the manifest itself, over all that it holds but this."""
    return sha256(json_bytes({key: value for key, value in record.items() if key != "check"}))


def _parse(record: Any) -> Manifest:  # JSON of any shape
    optional = ("rows", "clients", "shards", "charges", "privacy", "sha256", "lines", "check")
    fields(record, ("round", "server"), optional)
    if ("sha256" in record) != ("check" in record):
        raise ValueError("its checksums are incomplete")
    if "check" in record and record["check"] != _check(record):
        raise ValueError("its own checksum does not fit what it holds")
    round = integer(record["round"], "round")
    server = record["server"]
    if (server is None) != (round == 0):
        raise ValueError(f"round {round} with server state {server!r}")
    if server is not None and server != f"server/{state_file(round)}":
        raise ValueError(f"server is {server!r}, expected server/{state_file(round)}")
    shards = _shards(record.get("shards", []), CLIENTS, round)
    rows: tuple[str, ...] = ()
    owners = None
    if "rows" in record:
        known = fields(record["rows"], ("owners", "files"))
        rows, owners = _shards(known["files"], SERVER, round), known["owners"]
        if not isinstance(owners, str):
            raise ValueError(f"rows of {owners!r:.60}")
    clients = {}
    for client, file in _by_client(record.get("clients", {})).items():
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
    whole = {
        file: _digits(found, 64)
        for file, found in _object(record.get("sha256", {}), "sha256").items()
    }
    lines = {
        file: tuple(_digits(line, LINE_DIGITS) for line in items(found, file))
        for file, found in _object(record.get("lines", {}), "lines").items()
    }
    if missing := [file for file in (*rows, *shards) if file not in whole]:
        raise ValueError(f"shard {missing[0]} has no checksum")
    return Manifest(round, server, shards, clients, charges, privacy, whole, lines, rows, owners)


def _shards(value: object, folder: str, round: int) -> tuple[str, ...]:
    """Names of shards in a folder, in their order."""
    shards = tuple(str(file) for file in items(value, "shards"))
    orders = [_order(file, folder, round) for file in shards]
    if orders != sorted(set(orders)):
        raise ValueError(f"shards are not in their order: {shards!r:.80}")
    return shards


def _order(file: str, folder: str, round: int) -> tuple[int, int]:
    """A shard's place among the others: its round, and its part."""
    found = SHARD.fullmatch(file.removeprefix(f"{folder}/"))
    if not found or not file.startswith(f"{folder}/") or not 1 <= int(found[1]) <= round:
        raise ValueError(f"{file!r:.80} is no shard of a round up to {round}")
    return int(found[1]), int(found[2] or 0)


def _digits(value: object, count: int) -> str:
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{count}}}", value):
        raise ValueError(f"{value!r:.80} is no checksum")
    return value


def _object(value: object, what: str) -> dict[str, Any]:  # JSON of any shape
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, got {value!r:.60}")
    return value


def _by_client(record: Any) -> dict[ClientId, Any]:  # JSON of any shape
    if not isinstance(record, dict):
        raise ValueError(f"expected an object by client, got {record!r:.60}")
    if wrong := [name for name in record if not re.fullmatch(r"0|[1-9]\d{0,8}", name)]:
        raise ValueError(f"no client: {wrong[0]!r:.60}")
    return {ClientId(int(name)): value for name, value in record.items()}
