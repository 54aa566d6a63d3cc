"""Scripts that complete commands, options and choices in a shell; shtab writes them."""

from argparse import ArgumentParser, _ArgumentGroup
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Literal, get_args

import shtab

from pfedmoap.config.help_page import tidied
from pfedmoap.config.introspection import Command, Words, options_known
from pfedmoap.config.spelling import takes, words_of

Shell = Literal["bash", "zsh", "tcsh"]
SHELLS: tuple[Shell, ...] = get_args(Shell)
_LONGEST = 60  # characters of a description beside a completion


def completion_script(shell: Shell, commands: Mapping[str, str]) -> str:
    """Write the script that a shell reads.

    Args:
        shell: For which one.
        commands: What each command is for, by name; each is a module of ``eval/commands``.

    Returns:
        The script. It completes commands, their options (of all methods, partitions and data sets),
        what these admit, and names of files.
    """
    parser = ArgumentParser(prog="pfedmoap", description="", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version")
    places = parser.add_subparsers()
    for name, about in commands.items():
        sub = places.add_parser(name, help=about, description=about, add_help=False)
        _fill(sub, import_module(f"eval.commands.{name.replace('-', '_')}").main)
    return str(shtab.complete(parser, shell))


def _fill(sub: ArgumentParser, command: Command) -> None:
    """Add a command's options, places and the commands within it to its parser."""
    known = options_known(command)
    options = dict(known.more)
    for action in known.parser._actions:
        if not action.option_strings and not known.parts:
            _add_place(sub, action)
        for option in action.option_strings:
            if option.startswith("--"):
                options.setdefault(option, _words(action))
    for option, words in options.items():
        _add(sub, option, words)
    if known.parts:
        places = sub.add_subparsers()
        for name, part in known.parts.items():
            _fill(places.add_parser(name, help=name, add_help=False), part)


def _words(action: Any) -> Words:  # of argparse, or of jsonargparse with a type
    hint = getattr(action, "_typehint", None)
    choices: Iterable[object] = action.choices or sorted(words_of(hint)) if hint else action.choices
    return Words(
        action.help or "",
        tuple(map(str, choices or ())),
        action.nargs == 0 or hint is bool,
    )


def _add(parser: ArgumentParser | _ArgumentGroup, option: str, words: Words) -> None:
    about = tidied(words.about)[:_LONGEST].replace("%", "%%")
    if words.flag:
        parser.add_argument(option, action="store_true", help=about)
    elif words.choices:
        parser.add_argument(option, choices=words.choices, help=about)
    else:
        parser.add_argument(option, help=about).complete = shtab.FILE  # type: ignore[attr-defined]


def _add_place(parser: ArgumentParser, action: Any) -> None:  # as in `_words`
    made = parser.add_argument(action.dest, nargs=action.nargs, choices=action.choices)
    if action.choices is None and takes(getattr(action, "_typehint", str)) == "TEXT":
        made.complete = shtab.FILE  # type: ignore[attr-defined]
