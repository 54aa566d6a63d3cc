"""The page's colours in its light and its dark theme, and the second channel of every series.

Any two series colours of a theme stay apart under protanopia, deuteranopia and tritanopia, and
every colour stands out from the paper by 3:1; texts in them use a variant with 4.5:1 (WCAG 2.2,
1.4.3 and 1.4.11). ``tests/eval/report/test_colours.py`` computes both.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

Dash = Literal["-"] | tuple[int, tuple[float, ...]]

PALETTE = ("#006cab", "#b94600", "#009e73", "#b4659b", "#be8208", "#6a95c9", "#6a6d6d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.2, 1.5)))

INK, MUTED, RULE, PAPER = "#1a1a1b", "#6b6b6d", "#dededf", "#fefefd"

_LIGHT = {
    "paper": "#fdfdfc",
    "ink": "#1b1d21",
    "muted": "#5c6169",
    "rule": "#e2e3e5",
    "faint": "#f3f3f2",
    "edge": "#868b93",
}
_DARK = {
    "paper": "#16181b",
    "ink": "#e8e9ea",
    "muted": "#a3a9b1",
    "rule": "#2f3338",
    "faint": "#1f2226",
    "edge": "#767c85",
}
_DARK_SERIES = ("#44a2da", "#f08a3c", "#42d3a0", "#e39ac4", "#f0d040", "#95d2fd", "#918e8b")
_LIGHT_LABELS = ("#006cab", "#b94600", "#007554", "#9c4a82", "#8d5f00", "#426fa6", "#5f6262")

THEMES: Mapping[str, Mapping[str, str]] = {
    "light": _LIGHT
    | {f"series-{i}": colour for i, colour in enumerate(PALETTE)}
    | {f"label-{i}": colour for i, colour in enumerate(_LIGHT_LABELS)},
    "dark": _DARK
    | {f"series-{i}": colour for i, colour in enumerate(_DARK_SERIES)}
    | {f"label-{i}": colour for i, colour in enumerate(_DARK_SERIES)},
}
"""CSS variables, without their dashes, by theme."""

VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--series-{i}" for i, colour in enumerate(PALETTE)
}
"""Which variable stands for each colour that pictures are drawn in."""


def declarations(theme: str) -> str:
    """CSS declarations of a theme's variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in THEMES[theme].items())


def looks(names: Sequence[str]) -> dict[str, tuple[str, Dash, str]]:
    """Give every name a colour, a dash pattern and a marker, the same in all pictures of a task.

    No two of the first 28 names have the same colour and dashes, and no two of the first 49 the
    same colour and marker.

    Args:
        names: Different names.

    Returns:
        (colour, dashes, marker) by name.

    Example:
        >>> looks(["a", "b"])["b"]
        ('#b94600', '-', 's')
    """
    many = len(PALETTE)
    return {
        name: (
            PALETTE[i % many],
            DASHES[(i // many) % len(DASHES)],
            MARKERS[(i + i // many) % len(MARKERS)],
        )
        for i, name in enumerate(names)
    }
