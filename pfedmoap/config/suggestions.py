"""Errors about names that do not exist, with the nearest names that do."""

from collections.abc import Iterable
from difflib import get_close_matches

from pfedmoap.config.bounds import shown

MOST = 3  # names in a message


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Find the names that somebody may have meant, the likeliest first.

    Args:
        name: What was given, in any case, with ``-`` or ``_``.
        known: What there is.

    Returns:
        Up to three names; none where nothing is alike.

    Example:
        >>> nearest("Prompt-FL", ["promptfl", "fedprox"])
        ['promptfl']
    """
    by_form = {_form(other): other for other in known}
    begins = [by_form[form] for form in by_form if _form(name) and form.startswith(_form(name))]
    close = [by_form[form] for form in get_close_matches(_form(name), by_form, n=MOST, cutoff=0.6)]
    likely = close if len(close) == 1 else [*begins[:MOST], *close]
    return [*dict.fromkeys(likely)][:MOST]


def none_such(what: str, name: object, known: Iterable[str]) -> str:
    """Say that there is no such name, which one may be meant, and what there is.

    Example:
        >>> none_such("method", "promtfl", ["fedprox", "promptfl"])
        "no method 'promtfl'; nearest: promptfl; there are: fedprox, promptfl"
    """
    names = [*known]
    near = nearest(name, names) if isinstance(name, str) else []
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"no {what} {shown(name)}{hint}; there are: {', '.join(names)}"


def perhaps(unknown: Iterable[object], known: Iterable[str]) -> str:
    """Say in brackets which names are meant by some that are none; empty where nobody can tell.

    Example:
        >>> perhaps(["cta", "zebra"], ["cat", "dog"])
        " ('cta' is perhaps 'cat')"
    """
    names = [*known]
    pairs = {str(name): nearest(str(name), names)[:1] for name in unknown}
    said = ", ".join(f"{name!r} is perhaps {near[0]!r}" for name, near in pairs.items() if near)
    return f" ({said})" if said else ""


def _form(name: str) -> str:
    """A name without what is easily confused in it."""
    return name.casefold().replace("-", "_").replace(" ", "_")
