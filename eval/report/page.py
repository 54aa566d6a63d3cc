"""From parts to one HTML page that loads nothing, works without its script, and runs no other."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from eval.escaping import for_terminal
from eval.report.colours import declarations
from eval.report.structure import Data, Part, Picture, Section, Table

__all__ = ["BEGINNING", "Part", "Picture", "Section", "Table", "render"]

BEGINNING = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta name="generator" content="pfedmoap">
"""
"""What every page begins with, so that another one is not overwritten."""

_SCRIPTS = (
    "base.js",
    "marks.js",
    "walk.js",
    "tables.js",
    "explorer.js",
    "methods.js",
    "page.js",
)


def render(title: str, parts: Sequence[Part], warning: str = "") -> str:
    """Render one self-contained page.

    The page forbids itself every address and every script but ours, which is named by its hash:
    a name that broke out of its text would still not run.

    Args:
        title: The page's title.
        parts: Its parts.
        warning: Text shown above everything else; empty for none.

    Returns:
        HTML that loads nothing from anywhere; characters that act are written as escapes.
    """
    environment = Environment(
        loader=PackageLoader("eval", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = data_text
    environment.filters["prose"] = prose
    script = "\n(() => {\n" + "".join(map(_asset, _SCRIPTS)) + "})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        title=title,
        parts=parts,
        warning=warning,
        light=declarations("light"),
        dark=declarations("dark"),
        style=Markup(_asset("report.css")),  # our own file
        script=Markup(script),  # our own file
        digest=digest,
    )


def data_text(data: Data) -> Markup:
    r"""Write data as JSON that no name in it can end the element of, nor begin another one.

    Example:
        >>> print(data_text({"name": "</script>"}))
        {"name":"\u003c/script\u003e"}
    """
    text = json.dumps(_cleaned(data), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # has no markup


def prose(text: str) -> Markup:
    """Set what stands between backticks as code.

    Example:
        >>> print(prose("`report RUN` writes <b>"))
        <code>report RUN</code> writes &lt;b&gt;
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(for_terminal(text)))))


def _shown(value: Any) -> Any:  # of any type that a template shows
    """Write characters that act, such as those that turn the direction of text, as escapes."""
    return for_terminal(value) if type(value) is str else value


def _cleaned(data: Any) -> Any:  # of any type that JSON has
    if isinstance(data, Mapping):
        return {key: _cleaned(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_cleaned(value) for value in data]
    return _shown(data)


def _asset(name: str) -> str:
    return (files("eval") / "templates" / name).read_text(encoding="utf-8")
