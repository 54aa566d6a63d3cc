"""Parse options by their exact names; an unknown name is a one-line error with suggestions."""

import re
import sys
from argparse import HelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from pfedmoap.config.bounds import described
from pfedmoap.config.help_page import option_list
from pfedmoap.config.introspection import show_parser
from pfedmoap.config.spelling import spelt_out
from pfedmoap.config.suggestions import nearest, perhaps
from pfedmoap.errors import ConfigError

_called: ContextVar[str | None] = ContextVar("called", default=None)


@contextmanager
def called(name: str) -> Iterator[None]:
    """Let the help of commands say how they were called, e.g. ``pfedmoap train``."""
    token = _called.set(name)
    try:
        yield
    finally:
        _called.reset(token)


def program() -> str:
    """How the running command was called; a script by the name of its file."""
    return _called.get() or Path(sys.argv[0]).name


class CommandParser(ArgumentParser):
    """A parser whose help says what options take, their ranges and defaults.

    Attributes:
        parts: What the commands within this one do, by name.
    """

    parts: Mapping[str, str] = MappingProxyType({})

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Make the text of ``--help``."""
        del formatter
        return option_list(self, self.parts)


def command_parser(description: str) -> CommandParser:
    """Make a parser that accepts no abbreviated options; for use with ``parse``.

    Args:
        description: What ``--help`` says the command does.

    Returns:
        The parser, without options.
    """
    return CommandParser(prog=program(), description=description, allow_abbrev=False)


def parse(
    parser: ArgumentParser,
    arguments: Sequence[str] | None,
    namespace: Namespace | None = None,
    short: Iterable[str] = (),
) -> Namespace:
    """Parse a command line; every error has a one-line message.

    Args:
        parser: What ``command_parser`` made, with its options.
        arguments: The command line; ``None`` takes the process's own.
        namespace: Values that are set already.
        short: Short forms that were expanded before parsing; suggested like other options.

    Returns:
        The options.

    Raises:
        ConfigError: An option is unknown, or the parser refuses something.
        SystemExit: Help was asked for.
    """
    show_parser(parser)
    argv = list(sys.argv[1:] if arguments is None else arguments)
    names = option_names(parser)
    options = argv[: argv.index("--")] if "--" in argv else argv
    if {"-h", "--help"} & {*options}:  # while parsing, jsonargparse hides what is required
        sys.stdout.write(parser.format_help())
        sys.exit(0)
    for word in options:
        if word.startswith("--"):
            name = word.removeprefix("--").partition("=")[0]
            refuse_unknown(name.removesuffix("+"), names, "--", short)
    parser.exit_on_error = False
    try:
        parsed: Namespace = parser.parse_args(spelt_out(parser, argv), namespace=namespace)
    except Exception as error:  # jsonargparse raises errors of several kinds
        raise ConfigError(reason(error, parser)) from error
    finally:
        parser.exit_on_error = True
    return parsed


def parse_sections(parser: ArgumentParser, config: Mapping[str, Any]) -> Namespace:
    """Check the names and types of nested options; whatever is wrong is one line.

    Args:
        parser: What ``command_parser`` made, with its options.
        config: Options by section.

    Raises:
        ConfigError: An option is unknown, or the parser refuses a value.
    """
    known = option_names(parser)
    for name in keys_of(config, known):
        refuse_unknown(name, known)
    parser.exit_on_error = False
    try:
        checked: Namespace = parser.parse_object(dict(config))
    except Exception as error:  # jsonargparse raises errors of several kinds
        raise ConfigError(reason(error, parser)) from error
    finally:
        parser.exit_on_error = True
    return checked


def reason(error: Exception, parser: ArgumentParser) -> str:
    """What the parser says is wrong, in one line, with what the option's type admits."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 600 else f"{text[:400]} ..."
    if text.startswith("the following arguments are required"):
        return f"{text}; --help explains them"
    key = re.match(r'Parser key "([^"]+)"', text)
    types = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    if key is None or types.get(key[1]) is None:
        return text
    got = re.search(r"(?:Got|Given) value: (.*)", text)
    value = text[key.end() :].removeprefix(": ") if got is None else f"got {got[1]}"
    return f"{key[1]} must be {described(types[key[1]])}; {value}"


def option_names(parser: ArgumentParser) -> list[str]:
    """List every long option of a parser, without its dashes."""
    names = parser._option_string_actions  # argparse has no public way to list them
    return [name.removeprefix("--") for name in names if name.startswith("--")]


def refuse_unknown(
    name: str, known: Sequence[str], dashes: str = "", short: Iterable[str] = ()
) -> None:
    """Raise an error for a name that does not exist, with the nearest existing names.

    A part of a known option's value (``method.sizes.first`` where ``method.sizes`` takes a mapping)
    is left to the parser, which knows the option's type.

    Args:
        name: An option such as ``partition.clients``.
        known: The names that exist.
        dashes: What stands before a name where it was given.
        short: Further names to suggest.

    Raises:
        ConfigError: There is no such name.
    """
    parts = name.split(".")
    above = {".".join(parts[:end]) for end in range(1, len(parts))}
    groups = {other.rpartition(".")[0] for other in known}
    if name in known or above & (set(known) - groups):
        return
    near = ", ".join(dashes + other for other in nearest(name, [*known, *short]))
    hint = f"nearest: {near}" if near else "`--help all` lists all of them"
    raise ConfigError(f"there is no option {dashes}{name}; {hint}")


def refuse_unknown_keys(given: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """Raise an error if a file has keys that mean nothing.

    Args:
        given: The file's content.
        known: The keys that exist.
        what: What the file describes, for the message.

    Raises:
        ConfigError: It has; the message names them, and those that exist.
    """
    there = sorted(known)
    if unknown := sorted(set(given) - {*there}, key=str):
        raise ConfigError(
            f"{what} has no {', '.join(map(repr, unknown))}{perhaps(unknown, there)}; there are: "
            f"{', '.join(there)}"
        )


def keys_of(config: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """List the dotted names of a configuration's keys, as deep as the known options go.

    Args:
        config: Options by section; values are of any shape.
        known: The names of options that exist.

    Returns:
        Names such as ``training.epochs``.
    """
    found = []
    for key, value in config.items():
        inside = [name.removeprefix(f"{key}.") for name in known if name.startswith(f"{key}.")]
        if isinstance(value, Mapping) and (inside or key not in known):
            found += [f"{key}.{name}" for name in keys_of(value, inside)]
        else:
            found.append(str(key))
    return found


def expand_shorthand(argv: Sequence[str], sections: Iterable[str]) -> list[str]:
    """Expand ``--method promptfl`` to ``--method.name promptfl``."""
    short = {f"--{section}" for section in sections}
    expanded = []
    for word in argv:
        option, equals, value = word.partition("=")
        expanded.append(f"{option}.name{equals}{value}" if option in short else word)
    return expanded


def take_option(argv: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Split an option's values from a command line; returns the values and the rest."""
    values, rest = [], []
    words = iter(argv)
    for word in words:
        if word == f"--{name}":
            value = next(words, None)
            if value is None:
                raise ConfigError(f"--{name} needs a value")
            values.append(value)
        elif word.startswith(f"--{name}="):
            values.append(word.partition("=")[2])
        else:
            rest.append(word)
    return values, rest
