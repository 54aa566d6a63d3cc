"""How values are written on a command line: what an option takes, flags, and null."""

from argparse import Action
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

_PLACES = {int: "N", float: "X", str: "TEXT"}
_NOTHING = ("none", "None", "NULL", "Null")


def takes(hint: Any) -> str:
    """Write in short what is given to an option of a type, e.g. ``N|auto``.

    Example:
        >>> takes(int | None), takes(Literal["a", "b"]), takes(tuple[str, ...]), takes(bool)
        ('N|null', 'a|b', '[TEXT,...]', 'true|false')
    """
    return "|".join(dict.fromkeys(_taken(hint)))


def words_of(hint: Any) -> frozenset[str]:
    """Words that a type takes as such: its choices, true and false, null."""
    return frozenset(
        word
        for arm in _arms(hint)
        for word in (_taken(arm) if get_origin(arm) is Literal or arm in (bool, NoneType) else ())
    )


def written(value: Any) -> str:
    """Write an option's value as it is given on a command line.

    Example:
        >>> written(None), written(True), written(("a", 1)), written("")
        ('null', 'true', '[a, 1]', "''")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {written(item)}" for key, item in value.items())
        return "{" + inner + "}"
    return str(value) or "''"


def spelt_out(parser: ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Give flags the value that they stand for, and options the null that they take.

    ``--resume`` becomes ``--resume=true`` where the next word is no truth value, and ``none`` or
    ``None`` becomes ``null`` where an option takes null and no text.

    Args:
        parser: The command's, with all of its options.
        argv: The command line.

    Returns:
        The command line for the parser.
    """
    words = list(argv)
    found: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return [*found, word, *words]
        name, equals, value = word.partition("=")
        action = parser._option_string_actions.get(name)  # argparse has no public way to ask
        hint = getattr(action, "_typehint", None)
        if action is None or hint is None:
            found += _store_true(action, word, words)
        elif equals:
            found.append(f"{name}={_null(hint, value)}")
        elif bool in _arms(hint):
            known = words and (words[0].lower() in words_of(hint) or words[0] in _NOTHING)
            found.append(f"{name}={_null(hint, words.pop(0)) if known else 'true'}")
        elif words and words[0] != "--":
            found += [word, _null(hint, words.pop(0))]
        else:
            found.append(word)
    return found


def _store_true(action: Action | None, word: str, words: list[str]) -> list[str]:
    """A flag of argparse's own kind, which takes no value: ``--keep true`` is ``--keep``."""
    if action is None or type(action).__name__ != "_StoreTrueAction":
        return [word]
    value = words.pop(0) if words and words[0].lower() in ("true", "false") else "true"
    return [] if value.lower() == "false" else [word]


def _null(hint: Any, value: str) -> str:
    arms = _arms(hint)
    nothing = NoneType in arms and str not in arms and value in _NOTHING
    return "null" if nothing and value not in words_of(hint) else value


def _arms(hint: Any) -> tuple[Any, ...]:
    """The types that a type is a union of, without ranges."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return tuple(inner for arm in get_args(hint) for inner in _arms(arm))
    return (hint,)


def _taken(hint: Any) -> list[str]:
    arms = _arms(hint)
    if len(arms) > 1:
        return [word for arm in arms for word in _taken(arm)]
    origin, inside = get_origin(arms[0]) or arms[0], get_args(arms[0])
    if origin is Literal:
        return [written(choice) for choice in inside]
    if origin in (bool, NoneType):
        return ["true", "false"] if origin is bool else ["null"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["{NAME: " + (takes(inside[-1]) if inside else "VALUE") + ",...}"]
    if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
        return ["[" + (takes(inside[0]) if inside else "VALUE") + ",...]"]
    return [_PLACES.get(origin, "VALUE")]
