"""Commands within a command: the first word says which, and the rest is its own command line."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jsonargparse import SUPPRESS

from pfedmoap.config.exact_options import called, command_parser, parse, program
from pfedmoap.config.introspection import Command, is_asked, show_parser
from pfedmoap.config.suggestions import none_such
from pfedmoap.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A command within another one.

    Attributes:
        about: What it does, in a line.
        run: Takes its command line.
    """

    about: str
    run: Command


def run_part(
    parts: Mapping[str, Part], arguments: Sequence[str] | None, description: str, what: str
) -> None:
    """Run the command that the first word names.

    Args:
        parts: The commands, by name.
        arguments: The command line; ``None`` takes the process's own.
        description: What ``--help`` says of all of them.
        what: What a name is the name of, for errors.

    Raises:
        ConfigError: There is no such command, or its options are wrong.
        SystemExit: Help was asked for.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in parts and not is_asked():
        with called(f"{program()} {words[0]}"):
            parts[words[0]].run(words[1:])
        return
    first = next(iter(parts))
    parser = command_parser(description)
    parser.parts = {name: part.about for name, part in parts.items()}
    parser.epilog = f"`{program()} {first} --help` and so on explain each one's options."
    parser.add_argument(what, choices=tuple(parts), help=SUPPRESS)
    show_parser(parser, parts={name: part.run for name, part in parts.items()})
    if words and not words[0].startswith("-"):
        raise ConfigError(none_such(what, words[0], parts))
    parse(parser, words)
