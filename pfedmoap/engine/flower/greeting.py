"""The first thing that server and site say to each other: what is trained, and who takes part."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pfedmoap.engine.flower.members import Profile, check_name, counts
from pfedmoap.errors import ConfigError, UpdateRejectedError
from pfedmoap.storage.strict_json import fields, integer, items, text
from pfedmoap.wire.said import one_line

SECTIONS = (
    "backbone",
    "method",
    "training",
    "rounds",
    "server",
    "pool",
    "seeds",
    "privacy",
    "sampling",
    "features",
)
"""The sections of a configuration that a server publishes; sites have their own data."""


@dataclass(frozen=True)
class Welcome:
    """What a server publishes to every site, all of it public.

    Attributes:
        federation: Id of the federation.
        sections: The published sections of its configuration.
        class_names: Names of all classes, in the order of their numbers.
        templates: Hand-written prompts, each with one ``{}``.
        fingerprint: Of the frozen model, which is the same everywhere.
        server_key: The key that signs all orders.
    """

    federation: str
    sections: Mapping[str, Mapping[str, Any]]
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    fingerprint: str
    server_key: str


@dataclass(frozen=True)
class Greeting:
    """What a site says of itself.

    Attributes:
        name: Its name.
        profile: Its data.
        refused: Why it does not take part; ``None`` if it does.
    """

    name: str
    profile: Profile
    refused: str | None = None


def welcome_json(welcome: Welcome) -> dict[str, Any]:
    """Write what a server publishes as JSON."""
    lists = {"class_names": list(welcome.class_names), "templates": list(welcome.templates)}
    return asdict(welcome) | lists


def read_welcome(record: object) -> Welcome:
    """Read what a server published.

    Raises:
        UpdateRejectedError: It is none.
    """
    names = ("federation", "sections", "class_names", "templates", "fingerprint", "server_key")
    try:
        found = fields(record, names)
        sections = fields(found["sections"], SECTIONS)
        if not all(isinstance(options, dict) for options in sections.values()):
            raise ValueError("a section holds no options")
        federation = text(found["federation"], "the federation")
        if not federation.isalnum():  # it names a folder of the site
            raise ValueError(f"the federation's id is {federation!r:.60}")
        return Welcome(
            federation,
            sections,
            tuple(text(name, "a class") for name in items(found["class_names"], "classes")),
            tuple(text(name, "a template") for name in items(found["templates"], "templates")),
            text(found["fingerprint"], "the fingerprint"),
            text(found["server_key"], "the server's key"),
        )
    except ValueError as error:
        raise UpdateRejectedError(f"this is no welcome of a server: {error}") from error


def greeting_json(greeting: Greeting) -> dict[str, Any]:
    """Write what a site says of itself as JSON."""
    profile = {"train": list(greeting.profile.train), "test": list(greeting.profile.test)}
    return {"name": greeting.name, "profile": profile, "refused": greeting.refused}


def read_greeting(record: object, classes: int) -> Greeting:
    """Read what a site says of itself.

    Args:
        record: What came.
        classes: How many classes there are.

    Raises:
        UpdateRejectedError: It is none.
    """
    try:
        found = fields(record, ("name", "profile", "refused"))
        refused = found["refused"]
        if refused is not None:
            return Greeting(
                check_name(found["name"]), Profile(), one_line(text(refused, "the reason"))
            )
        about = fields(found["profile"], ("train", "test"))
        profile = Profile(counts(about["train"]), counts(about["test"]))
        for part in (profile.train, profile.test):
            integer(len(part), "classes counted", 0, classes)
            if len(part) not in (0, classes):
                raise ValueError(f"it counts {len(part)} classes, expected {classes}")
        return Greeting(check_name(found["name"]), profile)
    except (ValueError, TypeError, ConfigError) as error:
        raise UpdateRejectedError(one_line(f"this is no greeting of a site: {error}")) from error
