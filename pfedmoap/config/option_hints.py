"""Choices with several names, and errors about options that belong to another choice."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from pfedmoap.config.bounds import shown
from pfedmoap.errors import ConfigError


@runtime_checkable
class OpenChoices(Protocol):
    """Choices that can be given under several names, of which one is recorded."""

    def canonical(self, name: str) -> str:
        """Return the name that a configuration records for a choice."""
        ...


def refuse_misplaced(
    choices: Mapping[str, Mapping[str, type]],
    names: Mapping[str, str],
    given: Iterable[tuple[str, str]],
) -> None:
    """Raise an error for an option that the selected choice lacks and another choice has.

    An option that no choice has is misspelt; the check of values reports it.

    Args:
        choices: Classes by choice, by section.
        names: The selected choice of each section.
        given: Sections and options that were given.

    Raises:
        ConfigError: Such an option is there; the message names the choices that have it.
    """
    for section, option in given:
        kinds = choices.get(section, {})
        taken = kinds.get(names.get(section, ""))
        if taken is None or option == "name" or option in signature(taken).parameters:
            continue
        others = [name for name, kind in kinds.items() if option in signature(kind).parameters]
        if others:
            first, *rest = others
            also = f" (or {', '.join(rest)})" if rest else ""
            raise ConfigError(
                f"{section}.{option} is no option of {section} {names[section]!r}: choose "
                f"`--{section} {first}`{also} together with it"
            )


def check_form(section: str, options: object) -> None:
    """Refuse a section that is not options by name.

    Raises:
        ConfigError: It is empty or something else, or its choice has no name.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"section {section!r} must hold options, got {shown(options)}; leave it out to take "
            "all defaults"
        )
    if wrong := [key for key in options if not isinstance(key, str)]:
        raise ConfigError(f"section {section!r} has no option {shown(wrong[0])}")
    if not isinstance(options.get("name", ""), str):
        raise ConfigError(f"{section}.name must be text, got {shown(options['name'])}")


def options_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the sections and options of a configuration."""
    return [
        (section, str(option))
        for section, options in config.items()
        if isinstance(options, Mapping)
        for option in options
    ]


def options_on(argv: Sequence[str]) -> list[tuple[str, str]]:
    """List the sections and options on a command line, ``--section.option[.key]``."""
    found = []
    for word in argv:
        parts = word.removeprefix("--").partition("=")[0].rstrip("+").split(".")
        if word.startswith("--") and len(parts) > 1:
            found.append((parts[0], parts[1]))
    return found
