"""Who belongs to a federation: names of sites, and the numbers that they have as clients.

A site keeps its number for good, and no number is given twice, not even after a site has left: the
pool, the checkpoints and the privacy ledgers know sites by their numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pfedmoap.errors import ConfigError, RunError
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.strict_json import fields, integer, items, read_strict
from pfedmoap.wire.messages import ClientId

FILE = "members.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Profile:
    """What a site says of its data; empty where differential privacy is promised.

    Attributes:
        train: Training images by class.
        test: Test images by class.
    """

    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()


@dataclass(frozen=True)
class Member:
    """One site.

    Attributes:
        name: Its name, for good.
        client: Its number, for good.
        joined: The first round that it could take part in.
        left: Whether it has left; its number is not given again.
        profile: Its data.
    """

    name: str
    client: ClientId
    joined: int
    left: bool = False
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True)
class Members:
    """All sites that ever belonged to a federation, by name."""

    by_name: Mapping[str, Member] = field(default_factory=dict)

    @property
    def present(self) -> dict[ClientId, Member]:
        """Sites that have not left, by number."""
        return {one.client: one for one in self.by_name.values() if not one.left}

    def named(self, client: ClientId) -> str:
        """Name of a site.

        Raises:
            RunError: There is no such site.
        """
        for one in self.by_name.values():
            if one.client == client:
                return one.name
        raise RunError(f"no site has the number {client}; there are {len(self.by_name)}")

    def joined(self, name: str, round: int, profile: Profile) -> "Members":
        """Add a site, or renew what a known one says of its data.

        Args:
            name: Its name.
            round: The next round.
            profile: Its data.

        Raises:
            RunError: It has left: its number is not given again.
        """
        check_name(name)
        known = self.by_name.get(name)
        if known is None:
            client = ClientId(max((one.client for one in self.by_name.values()), default=-1) + 1)
            known = Member(name, client, round)
        if known.left:
            raise RunError(
                f"site {name!r} has left, and what came of it was erased; it can join again under "
                "another name"
            )
        return Members({**self.by_name, name: replace(known, profile=profile)})

    def without(self, client: ClientId) -> "Members":
        """Note that a site has left.

        Raises:
            RunError: There is no such site.
        """
        name = self.named(client)
        gone = replace(self.by_name[name], left=True, profile=Profile())
        return Members({**self.by_name, name: gone})

    def write(self, folder: Path) -> None:
        """Write the list, atomically."""
        record = {
            one.name: {
                "client": one.client,
                "joined": one.joined,
                "left": one.left,
                "train": list(one.profile.train),
                "test": list(one.profile.test),
            }
            for one in self.by_name.values()
        }
        write_json(folder / FILE, record)

    @classmethod
    def read(cls, folder: Path) -> "Members":
        """Read the list; an empty one where there is none.

        Raises:
            RunError: It is damaged.
        """
        try:
            record = read_strict(folder / FILE)
            found = {name: _member(name, about) for name, about in record.items()}
        except FileNotFoundError:
            return cls()
        except (ValueError, AttributeError) as error:
            raise RunError(
                f"{folder / FILE} is damaged ({error}); restore it from a copy: it says whose "
                "number is whose"
            ) from error
        if len({one.client for one in found.values()}) < len(found):
            raise RunError(f"{folder / FILE} is damaged: it gives a number twice")
        return cls(found)


def check_name(name: str) -> str:
    """Return a site's name.

    Raises:
        ConfigError: It cannot be one.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"a site's name has up to 64 letters, digits, points, hyphens and underscores, and "
            f"begins with a letter or digit; got {name!r:.80}"
        )
    return name


def _member(name: str, record: Any) -> Member:  # JSON of any shape
    found = fields(record, ("client", "joined", "left", "train", "test"))
    if not NAME.fullmatch(name) or type(found["left"]) is not bool:
        raise ValueError(f"{name!r:.60} is no entry of a site")
    return Member(
        name,
        ClientId(integer(found["client"], "client")),
        integer(found["joined"], "joined", 1),
        found["left"],
        Profile(counts(found["train"]), counts(found["test"])),
    )


def counts(value: object) -> tuple[int, ...]:
    """Read a list of counts.

    Raises:
        ValueError: It is none.
    """
    return tuple(integer(count, "a count") for count in items(value, "counts"))
