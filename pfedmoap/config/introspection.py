"""Ask a command for its options without running it; completion of the shell needs them."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from jsonargparse import ArgumentParser

Command = Callable[[Sequence[str]], None]  # takes its command line

_asked: ContextVar[bool] = ContextVar("asked", default=False)


@dataclass(frozen=True)
class Words:
    """What may follow an option.

    Attributes:
        about: What it is for, in a line.
        choices: The values that there are; none where any may be given.
        flag: Whether it needs no value.
    """

    about: str = ""
    choices: tuple[str, ...] = ()
    flag: bool = False


class OptionsAsked(Exception):  # noqa: N818  # nothing has failed
    """What a command would parse with.

    Attributes:
        parser: Its parser.
        more: Options besides, by name with dashes, such as those of choices that were not made.
        parts: Commands within this one, by name.
    """

    def __init__(
        self,
        parser: ArgumentParser,
        more: Mapping[str, Words] | None = None,
        parts: Mapping[str, Command] | None = None,
    ) -> None:
        super().__init__("options were asked for")
        self.parser, self.more, self.parts = parser, dict(more or {}), dict(parts or {})


@dataclass(frozen=True)
class Known:
    """The options of a command.

    Attributes:
        parser: Its parser.
        more: Further options; see `OptionsAsked`.
        parts: Commands within it, by name.
    """

    parser: ArgumentParser
    more: Mapping[str, Words] = field(default_factory=dict)
    parts: Mapping[str, Command] = field(default_factory=dict)


def options_known(command: Command) -> Known:
    """Ask a command for its options; it ends where it would parse its command line.

    Args:
        command: The command's ``main``.

    Raises:
        RuntimeError: It parses nothing.
    """
    token = _asked.set(True)
    try:
        command(["--help"])
    except OptionsAsked as found:
        return Known(found.parser, found.more, found.parts)
    finally:
        _asked.reset(token)
    raise RuntimeError(f"{command.__module__} parses no options")


def is_asked() -> bool:
    """Whether options are asked for, and nothing is to be parsed."""
    return _asked.get()


def show_parser(
    parser: ArgumentParser,
    more: Mapping[str, Words] | None = None,
    parts: Mapping[str, Command] | None = None,
) -> None:
    """Hand a parser to whom asks for it; does nothing where nobody does.

    Raises:
        OptionsAsked: Somebody does.
    """
    if is_asked():
        raise OptionsAsked(parser, more, parts)
