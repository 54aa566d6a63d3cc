"""From matplotlib's SVG to one that follows the page's theme and says what its marks are.

Colours become CSS variables of the page. What a mark stands for travels in its artist's id, which
matplotlib writes out as it is (`tell`, `tell_cells`), and becomes ``data-`` attributes that the
page's script shows; it is in base64 on this way, so that no name in it is taken for anything.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from matplotlib.artist import Artist

from eval.escaping import for_terminal
from eval.report.colours import PALETTE, VARIABLES

MOST_CELLS = 60_000

_TOLD = "tell:"
_TAG = re.compile("<[^>]*>")


def tell(
    artist: Artist,
    tips: str | Sequence[str],
    keys: str | Sequence[str] = "",
    *,
    echo: bool = False,
) -> None:
    """Say what a mark stands for.

    Args:
        artist: A line, bar, area or text with one tip, or points with one tip each.
        tips: What the pointer is told over it.
        keys: What a click on it picks in its part, such as ``c3`` for client 3 or ``m1`` for a
            method: one, or one a tip; empty for nothing.
        echo: Whether it says again what another mark says, as the name beside a line does: arrow
            keys do not stop at it.
    """
    told = {
        "tip": tips if isinstance(tips, str) else _lines(tips),
        "key": keys if isinstance(keys, str) else _lines(keys),
        "echo": "1" if echo else "",
    }
    artist.set_gid(_packed(told))


def tell_cells(
    image: Artist,
    say: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Iterable[Iterable[object]],
    keys: Sequence[str] = (),
) -> None:
    """Say what the cells of a heat map stand for.

    Args:
        image: The heat map, its first row on top.
        say: What the pointer is told, with ``{row}``, ``{column}`` and ``{cell}`` in it.
        rows: Name of each row.
        columns: Name of each column.
        cells: A text without spaces for each cell, row by row; ``-`` for nothing. A map of more
            than `MOST_CELLS` has none, so that a page of a thousand clients stays below 5 MB.
        keys: What a click on each column picks; empty for nothing.
    """
    if len(rows) * len(columns) > MOST_CELLS:
        return
    told = {
        "say": say,
        "rows": _lines(rows),
        "columns": _lines(columns),
        "cells": _lines(" ".join(str(cell) for cell in row) for row in cells),
        "key": _lines(keys),
    }
    image.set_gid(_packed(told))


def inline(svg: str, label: str) -> str:
    """Make matplotlib's SVG a part of a page.

    Args:
        svg: A whole SVG file.
        label: Its name for who does not see it.

    Returns:
        An element that loads nothing, whose ids are its own, with the page's colours and font.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _TAG.sub(_for_the_page, svg)
    svg = re.sub(r"(<g[^>]*>)\s*((?:<use [^>]*/>\s*)+)", _shared_style, svg)
    svg = _own_ids(re.sub(r">\s+<", ">\n<", svg))
    name = escape(for_terminal(label))
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        lambda found: f'<svg viewBox="{found[1]}" role="img" aria-label="{name}">',
        svg,
        count=1,
    )


def _packed(told: Mapping[str, str]) -> str:
    shown = {name: for_terminal(text) for name, text in told.items()}
    return _TOLD + base64.b64encode(json.dumps(shown).encode()).decode()


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(" ".join(text.splitlines()) for text in texts)


def _for_the_page(tag: re.Match[str]) -> str:
    """Rewrite one tag's attributes; texts, which may look like attributes, are not touched."""
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag[0]).replace(" xlink:href=", " href=")
    text = re.sub(r'style="([^"]*)"', lambda found: f'style="{_themed(found[1])}"', text)
    if text.startswith("<path"):  # to a hundredth of a unit
        text = re.sub(r'\sd="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    if text.startswith("<text"):
        for i in range(len(PALETTE)):
            text = text.replace(f"fill: var(--series-{i})", f"fill: var(--label-{i})")
    return re.sub(rf'\sid="{_TOLD}([^"]*)"', _attributes, text)


def _attributes(found: re.Match[str]) -> str:
    told = json.loads(base64.b64decode(found[1]))
    written = (f'data-{name}="{escape(value)}"' for name, value in told.items() if value)
    return f' class="mark" {" ".join(written)}'.replace("\n", "&#10;")


def _themed(style: str) -> str:
    style = re.sub(r"(font: [^;]*?[\d.]+px )[^;]*", r"\1var(--sans)", style)
    style = re.sub(r"font-family: [^;]*", "font-family: var(--sans)", style)
    for colour, variable in VARIABLES.items():
        style = style.replace(colour, f"var({variable})")
    return style


def _shared_style(found: re.Match[str]) -> str:
    """Write the style of many equal points once, and their places to a hundredth."""
    group, points = found[1], found[2]
    points = re.sub(
        r' ([xy])="(-?[\d.]+)"', lambda at: f' {at[1]}="{round(float(at[2]), 2):g}"', points
    )
    styles = set(re.findall(r'style="([^"]*)"', points))
    if len(styles) == 1 and "style=" not in group:
        points = re.sub(r'\s*style="[^"]*"', "", points)
        group = f'{group[:-1]} style="{styles.pop()}">'
    return group + points


def _own_ids(svg: str) -> str:
    """Keep the ids that something refers to, and make them different from other pictures'."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    mark = hashlib.sha256(svg.encode(errors="replace")).hexdigest()[:8]

    def own(tag: re.Match[str]) -> str:
        text = re.sub(
            r'\sid="([^"]*)"',
            lambda found: f' id="{mark}{found[1]}"' if found[1] in used else "",
            tag[0],
        )
        return re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}", text)

    return _TAG.sub(own, svg)
