"""The text of ``--help``: what options take, what they are for, their ranges and defaults."""

import re
import shutil
import textwrap
from argparse import Action
from collections.abc import Iterable, Mapping
from typing import Any

from jsonargparse import SUPPRESS, ArgumentParser

from pfedmoap.config.bounds import range_of
from pfedmoap.config.spelling import takes, words_of, written

WIDEST, NARROWEST = 100, 60  # columns of a page
_COLUMN = 26  # where texts begin


def page_width() -> int:
    """Columns of a page: the terminal's, at most 100."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def rows(pairs: Iterable[tuple[str, str]], column: int = _COLUMN) -> list[str]:
    """Set heads with their texts beside them, wrapped.

    Args:
        pairs: Each head, and its text.
        column: Where texts begin; a longer head has its text below.

    Returns:
        The lines.
    """
    lines, width = [], page_width()
    for head, text in pairs:
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        start = f"  {head}"
        if len(start) > column - 2:
            lines += textwrap.wrap(start, width, subsequent_indent=" " * 6)
            start = ""
        lines.append(f"{start:<{column}}{wrapped[0]}".rstrip())
        lines += [" " * column + line for line in wrapped[1:]]
    return lines


def paragraph(text: str, indent: str = "") -> list[str]:
    """Wrap a paragraph."""
    return textwrap.wrap(
        tidied(text),
        page_width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def option_rows(parser: ArgumentParser, actions: Iterable[Action]) -> list[tuple[str, str]]:
    """The head and the text of options, for `rows`.

    Args:
        parser: Whose options they are.
        actions: Some of its actions; those that help does not show are left out.
    """
    found = []
    known = getattr(parser, "required_args", ())  # where older jsonargparse keeps them
    for action in filter(_is_shown, actions):
        hint = getattr(action, "_typehint", None)
        needed = action.required or action.dest in known
        found.append((_head(action, hint), _text(action, hint, needed=needed)))
    return found


def option_list(parser: ArgumentParser, parts: Mapping[str, str]) -> str:
    """Make the page of a parser: all of its options, in its groups.

    Args:
        parser: A command's, with all of its options.
        parts: What commands within it do, by name.

    Returns:
        The page.
    """
    places = [action for action in parser._actions if not action.option_strings]
    words = [_place(action) for action in places]
    pages = ["\n".join(paragraph(" ".join(["usage:", str(parser.prog), *words, "[OPTIONS]"])))]
    pages.append("\n".join(paragraph(parser.description or "")))
    if parts:
        pages.append("\n".join(rows(parts.items())))
    pages.extend(
        "\n".join([*paragraph(f"{group.title}:"), *rows(shown)])
        for group in parser._action_groups
        if (shown := option_rows(parser, group._group_actions))
    )
    if parser.epilog:
        pages.append("\n".join(paragraph(parser.epilog)))
    return "\n\n".join(page for page in pages if page) + "\n"


def section_rows(parser: ArgumentParser, section: str) -> list[str]:
    """The options of one section of a configuration.

    Args:
        parser: A parser with all sections.
        section: Its name.
    """
    inside = [action for action in parser._actions if action.dest.startswith(f"{section}.")]
    return rows(option_rows(parser, inside))


def tidied(text: str) -> str:
    """Turn a docstring's text into that of a page: one line, single backticks."""
    return " ".join(text.split()).replace("``", "`")


def _is_shown(action: Action) -> bool:
    return action.help != SUPPRESS and type(action).__name__ != "_ActionConfigLoad"


def _place(action: Action) -> str:
    name = str(action.metavar or action.dest).upper()
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(action.nargs), name)


def _head(action: Action, hint: Any) -> str:
    if not action.option_strings:
        return _place(action)
    if action.nargs == 0 or (hint is bool and not action.default):
        return ", ".join(action.option_strings)
    named = action.metavar if isinstance(action.metavar, str) and hint is None else None
    if hint is None and action.choices is not None:
        named = "NAME" if len([*action.choices]) > 6 else "|".join(map(str, action.choices))
    known = {int: "N", float: "X"}.get(action.type, "TEXT")  # type: ignore[call-overload]
    return f"{action.option_strings[-1]} {named or (known if hint is None else takes(hint))}"


def _text(action: Action, hint: Any, *, needed: bool) -> str:
    text = tidied(action.help or "")
    end, text = "." if text.endswith(".") else "", text.rstrip(".")
    text = _with_null(text) if "null" in words_of(hint) else text
    if (bounds := range_of(hint)) is not None:
        text += f"; {bounds}"
    if hint is None and action.choices is not None and len([*action.choices]) > 6:
        text += f"; one of {', '.join(map(str, action.choices))}"
    text += end
    if needed:
        text += " (required)" if action.option_strings else ""
    elif _has_default(action, hint):
        text += f" (default: {written(action.default)})"
    return text


def _has_default(action: Action, hint: Any) -> bool:
    if action.nargs == 0 or action.default == SUPPRESS:
        return False
    if hint is bool and action.default is False:
        return False  # a flag that is not given
    return action.default is not None or "null" in words_of(hint)


def _with_null(text: str) -> str:
    """Say ``null`` where a docstring's "none" is the value that an option takes."""
    return re.sub(r"(^|[;.,:] |\bmust be |\bor )none\b", r"\1null", text, flags=re.IGNORECASE)
