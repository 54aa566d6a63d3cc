"""The file of one client's ledger: each run's charges, read strictly and written atomically.

```
{"format": 2, "client": 3, "runs": [
    {"run": "8c1f...", "epsilon": 8.0, "mechanism": {"name": "release", "unit": "client", ...},
     "charges": [{"round": 1, "units": 1, "epsilon": 1.31}]}]}
```
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pfedmoap.errors import PrivacyError
from pfedmoap.storage.atomic_files import json_bytes, write_json
from pfedmoap.storage.own_files import refuse_link
from pfedmoap.storage.strict_json import fields, integer, items, number, read_strict, text
from pfedmoap.wire.messages import ClientId
from privacy.accounting.epsilon import LARGEST_DELTA, SMALLEST_DELTA

NAME = re.compile(r"(-?\d{3,9})\.json")
THIS_RUN = "this run"
"""Id of a run that keeps its ledgers in its own folder, and of the only run in format 1."""

_FORMAT = 2
# What options allow, and calibration can find: beyond, accounting fails or does not end.
_RANGES = {"noise_multiplier": (1e-8, 1e12), "sample_rate": (1e-6, 1.0)}
_UNITS = {"dpsgd": "example", "release": "client"}  # of format 1, by the mechanism's first word


@dataclass(frozen=True)
class Charge:
    """The charge of one round.

    Attributes:
        round: The round.
        units: Units charged for it.
        epsilon: What the client had spent in all runs together when it was charged.
    """

    round: int
    units: int
    epsilon: float


@dataclass(frozen=True)
class Account:
    """One run's charges to a client.

    Attributes:
        run: The run's id.
        epsilon: The run's budget: all runs up to then together were to stay within it.
        mechanism: All that its guarantee depends on, as JSON.
        charges: Its charges in the order of time; a round that was run again is there again.
    """

    run: str
    epsilon: float
    mechanism: Mapping[str, Any]  # JSON of any shape
    charges: tuple[Charge, ...]

    @property
    def units(self) -> int:
        """Units of all charges together."""
        return sum(charge.units for charge in self.charges)

    def charged(self, charge: Charge) -> "Account":
        """The account with one charge more."""
        return replace(self, charges=(*self.charges, charge))


def read_accounts(file: Path, client: ClientId) -> tuple[Account, ...]:
    """Read a ledger; empty where there is no file.

    Args:
        file: The file.
        client: Whose ledger it must be.

    Raises:
        PrivacyError: It is damaged, or another client's.
    """
    try:
        refuse_link(file)
        owner, accounts = _parse(read_strict(file))
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise PrivacyError(
            f"the ledger {file} is damaged ({error}); restore it: without it nobody knows what "
            "this client has spent"
        ) from error
    if owner != client:
        raise PrivacyError(f"the ledger {file} belongs to client {owner}, expected {client}")
    return accounts


def read_folder(folder: Path) -> dict[ClientId, tuple[Account, ...]]:
    """Read all ledgers of a folder, by client; empty where there is no folder.

    Raises:
        PrivacyError: One is damaged, or another client's than its name says.
    """
    files = folder.iterdir() if folder.is_dir() else ()
    found = (NAME.fullmatch(file.name) for file in files)
    clients = sorted({ClientId(int(match[1])) for match in found if match})
    return {client: read_accounts(file_of(folder, client), client) for client in clients}


def file_of(folder: Path, client: ClientId) -> Path:
    """A client's ledger."""
    return folder / f"{client:04d}.json"


def write_accounts(file: Path, client: ClientId, accounts: tuple[Account, ...]) -> None:
    """Write a ledger; it is on the disk when this returns."""
    write_json(file, _content(client, accounts))


def ledger_bytes(client: ClientId, accounts: tuple[Account, ...]) -> bytes:
    """What `write_accounts` writes."""
    return json_bytes(_content(client, accounts))


def _content(client: ClientId, accounts: tuple[Account, ...]) -> dict[str, Any]:  # JSON
    runs = [
        {
            "run": account.run,
            "epsilon": account.epsilon,
            "mechanism": dict(account.mechanism),
            "charges": [
                {"round": charge.round, "units": charge.units, "epsilon": charge.epsilon}
                for charge in account.charges
            ],
        }
        for account in accounts
    ]
    return {"format": _FORMAT, "client": client, "runs": runs}


def unit_of(mechanism: Mapping[str, Any]) -> str:
    """What a mechanism protects: the ``unit`` that it names."""
    return str(mechanism.get("unit") or _UNITS.get(str(mechanism["name"]).split()[0], "unknown"))


def _parse(record: Any) -> tuple[int, tuple[Account, ...]]:  # JSON of any shape
    if isinstance(record, dict) and "format" not in record:
        return _parse_format_1(record)
    fields(record, ("format", "client", "runs"))
    if type(record["format"]) is not int or record["format"] != _FORMAT:
        raise ValueError(f"format {record['format']!r:.20}, expected {_FORMAT}")
    accounts = []
    for run in items(record["runs"], "runs"):
        fields(run, ("run", "epsilon", "mechanism", "charges"))
        charges = tuple(_charge(charge) for charge in items(run["charges"], "charges"))
        budget = number(run["epsilon"], "epsilon")
        accounts.append(Account(text(run["run"], "run"), budget, _mechanism(run), charges))
    if len({account.run for account in accounts}) != len(accounts):
        raise ValueError("two accounts of one run")
    return _client(record), tuple(accounts)


def _parse_format_1(record: Any) -> tuple[int, tuple[Account, ...]]:  # JSON of any shape
    """Read what versions before format 2 wrote: one run, without its budget."""
    fields(record, ("client", "mechanism", "charges"))
    charges = tuple(_charge(charge) for charge in items(record["charges"], "charges"))
    budget = max((charge.epsilon for charge in charges), default=0.0)
    return _client(record), (Account(THIS_RUN, budget, _mechanism(record), charges),)


def _client(record: Any) -> int:  # JSON of any shape
    return integer(record["client"], "client", least=-1)  # -1 stands for all clients together


def _charge(record: object) -> Charge:
    found = fields(record, ("round", "units", "epsilon"))
    return Charge(
        integer(found["round"], "round", least=1),
        integer(found["units"], "units", least=1),
        number(found["epsilon"], "epsilon"),
    )


def _mechanism(record: Any) -> dict[str, Any]:  # JSON of any shape
    mechanism = record["mechanism"]
    if not isinstance(mechanism, dict) or "name" not in mechanism:
        raise ValueError("the mechanism has no name")
    text(mechanism["name"], "the mechanism's name")
    for name, value in mechanism.items():
        if not isinstance(value, str | bool | None):
            number(value, f"the mechanism's {name}", least=-1e300)
    _in_range(mechanism, "delta", SMALLEST_DELTA, LARGEST_DELTA)
    for name, (least, most) in _RANGES.items():
        if name in mechanism:
            _in_range(mechanism, name, least, most)
    return mechanism


def _in_range(mechanism: dict[str, Any], name: str, least: float, most: float) -> None:
    what = f"the mechanism's {name}"
    if not number(mechanism.get(name), what) <= most or mechanism[name] < least:
        raise ValueError(f"{what} must be from {least:g} to {most:g}, got {mechanism[name]!r:.30}")
