"""Signed records of erasures: what was done at the server, and which sites say that they did it.

A record is there, marked as not complete, before anything is taken out of a run. So an erasure that
was killed half-way is known to be one: the run is not continued until it has been repeated.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.layout import PRIVATE, Layout
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.signing import Signer, is_signed
from pfedmoap.storage.strict_json import fields, integer, read_strict
from pfedmoap.wire.messages import ClientId

FOLDER = "erasures"
_SIGNED = ("run", "key", "signature")  # beside what an erasure did; versions before lack `complete`


@dataclass(frozen=True)
class Erasure:
    """What an erasure did, and what it could not do.

    Attributes:
        client: Who has left.
        round: The run's last round.
        at: When, in UTC.
        rounds: Rounds in which the client took part.
        states_changed: Other clients whose states in this folder held something of it; ``None`` in
            a federation of sites, which keep their own: `confirm` notes what they say.
        server_changed: Whether the server held something of it alone.
        share_of_last_average: Its weight in the average of the last round; 0 if it took no part.
        cosine_with_average: Largest cosine of its last prompt with a part of the server's state of
            the same size that stays; ``None`` where there is none.
        stays: What stays of it, in words.
        complete: Whether it was done to the end.
    """

    client: ClientId
    round: int
    at: str
    rounds: int
    states_changed: int | None
    server_changed: bool
    share_of_last_average: float
    cosine_with_average: float | None
    stays: str
    complete: bool = True


def record_of(layout: Layout, client: ClientId) -> Path:
    """Where the record of an erasure is: who took part and how far is private in a private run."""
    return layout.where(f"{FOLDER}/{client:04d}.json")


def write_record(layout: Layout, done: Erasure, signer: Signer) -> None:
    """Sign and write a record, in the place of an earlier one."""
    _write(record_of(layout, done.client), asdict(done) | {"run": layout.run.name}, signer, layout)


def read_record(layout: Layout, client: ClientId) -> Erasure | None:
    """Read a record; ``None`` where there is none.

    Raises:
        RunError: It is damaged, or was changed since it was signed.
    """
    file = record_of(layout, client)
    names = tuple(Erasure.__dataclass_fields__)
    try:
        record = fields(read_strict(file), {*names, *_SIGNED} - {"complete"}, names)
        if not check_record(file):
            raise ValueError("its signature is another one's")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}; restore it from a copy") from error
    return Erasure(**{name: record[name] for name in names if name in record})


def check_record(file: Path) -> bool:
    """Whether a record is as it was signed."""
    record = read_strict(file)
    signature = record.pop("signature")
    return is_signed(json_bytes(record), str(signature), str(record["key"]))


def erased_clients(run_folder: Path) -> frozenset[ClientId]:
    """Clients that were erased from a run; they train no more.

    Raises:
        RunError: An erasure was interrupted: the run may hold the rest of a client.
    """
    folders = (run_folder / FOLDER, run_folder / PRIVATE / FOLDER)
    files = [file for folder in folders for file in sorted(folder.glob("[0-9]*.json"))]
    for file in files:
        if read_strict(file).get("complete") is False:
            client = int(file.stem)
            raise RunError(
                f"the erasure of client {client} from {run_folder} was interrupted: end it with "
                f"`pfedmoap forget {run_folder} --client {client}`"
            )
    return frozenset(ClientId(int(file.stem)) for file in files)


def confirm(layout: Layout, site: str, changed: Mapping[ClientId, int], signer: Signer) -> None:
    """Note that a site says to have erased clients that have left; once is enough.

    Args:
        layout: The run.
        site: The site's name.
        changed: By client, how many states of the site held something of it.
        signer: The server's key.
    """
    for client, states in changed.items():
        file = _confirmations(layout, client)
        known = confirmed(layout, client)
        if site in known and not states:
            continue
        before = known.get(site, 0)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        said = _said(file) | {site: {"at": at, "states_changed": before + states}}
        _write(file, {"client": client, "run": layout.run.name, "sites": said}, signer, layout)


def confirmed(layout: Layout, client: ClientId) -> dict[str, int]:
    """Sites that say to have erased a client, and how many of their states held something of it."""
    said = _said(_confirmations(layout, client))
    return {site: integer(one["states_changed"], "states") for site, one in said.items()}


def _confirmations(layout: Layout, client: ClientId) -> Path:
    return layout.where(f"{FOLDER}/sites-{client:04d}.json")


def _said(file: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = read_strict(file)["sites"]
    except FileNotFoundError:
        return {}
    return said


def _write(file: Path, record: dict[str, Any], signer: Signer, layout: Layout) -> None:
    record = record | {"key": signer.public}
    signed = record | {"signature": signer.sign(json_bytes(record))}
    write_bytes(file, json.dumps(signed, indent=2).encode(), private=layout.divided)
