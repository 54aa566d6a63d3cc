"""The style of every picture: readable on light and dark pages and by colour-blind readers.

Pictures are inline SVG whose colours become CSS variables of the page, so that they follow its
light or dark theme. Heat maps fade into the page instead of into white.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, RULE, PAPER = "#1a1a1b", "#6b6b6d", "#dededf", "#fefefd"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 9.2  # inches of a full-width picture; one inch is 72 units of its view box

VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--series-{i}" for i, colour in enumerate(PALETTE)
}

RC: Any = {  # matplotlib types the names of all its settings
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 8.0,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "pfedmoap",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g}%")

styled = matplotlib.rc_context(RC)
"""Decorates every function that draws: matplotlib reads its settings at each call."""


@dataclass(frozen=True)
class Picture:
    """A picture for the page.

    Attributes:
        svg: Inline SVG.
        caption: One sentence that says how to read it.
    """

    svg: str
    caption: str


def new_figure(height: float, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make a full-width figure with some axes side by side.

    Args:
        height: In inches.
        columns: Number of axes.
        **options: Passed on to matplotlib's ``subplots``.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(1, columns, squeeze=False, **options)
    return figure, list(axes[0])


def picture(figure: Figure, caption: str) -> Picture:
    """Turn a figure into inline SVG that follows the page's theme and loads nothing."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(_inline(buffer.getvalue()), caption)


def grid(axes: Axes, axis: str = "y") -> None:
    """Draw light grid lines along one axis, without tick marks."""
    axes.grid(visible=True, axis="x" if axis == "x" else "y")
    axes.tick_params(length=0)


def fading(colour: str) -> LinearSegmentedColormap:
    """Make a colour map from transparent to a colour."""
    rgb = matplotlib.colors.to_rgb(colour)
    return LinearSegmentedColormap.from_list("fading", [(*rgb, 0.0), (*rgb, 1.0)])


def diverging(low: str = PALETTE[1], high: str = PALETTE[0]) -> LinearSegmentedColormap:
    """Make a colour map from one colour through transparent to another."""
    below, above = matplotlib.colors.to_rgb(low), matplotlib.colors.to_rgb(high)
    stops = [(0.0, (*below, 1.0)), (0.5, (*below, 0.0)), (0.5, (*above, 0.0)), (1.0, (*above, 1.0))]
    return LinearSegmentedColormap.from_list("diverging", stops)


def label_ends(
    axes: Axes, x: float, ends: Sequence[tuple[float, str, str]], gap: float
) -> list[float]:
    """Write names beside the right ends of lines, moved apart where they would collide.

    Args:
        axes: Where the lines are; names stay between their bottom and top.
        x: Right end of the lines in data coordinates.
        ends: (y, name, colour) of each line.
        gap: Least distance of two names in data coordinates.

    Returns:
        Where each name stands, in the order of ``ends``.
    """
    order = sorted(range(len(ends)), key=lambda i: ends[i])
    heights = spread_out([ends[i][0] for i in order], gap, *axes.get_ylim())
    for height, (_, name, colour) in zip(heights, (ends[i] for i in order), strict=True):
        axes.annotate(
            name,
            (x, float(height)),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8.5,
            annotation_clip=False,
        )
    return [heights[order.index(i)] for i in range(len(ends))]


def name_height(axes: Axes, figure: Figure) -> float:
    """Room that a name needs beside the only axes of a figure, in data coordinates."""
    bottom, top = axes.get_ylim()
    return 0.2 / (figure.get_figheight() - 0.8) * (top - bottom)


def scatter(axes: Axes, points: Sequence[tuple[float, float, str, str]], figure: Figure) -> None:
    """Draw named points, with their names in a column on the right that thin lines lead to.

    Args:
        axes: Where; the limits of x are set already.
        points: (x, y, name, colour) of each.
        figure: Theirs.
    """
    for x, y, _, colour in points:
        axes.scatter([x], [y], s=44, color=colour, linewidths=0, zorder=3)
    axes.margins(y=0.08)
    bottom, top = axes.get_ylim()
    right = axes.get_xlim()[1]
    ends = [(y, name, colour) for _, y, name, colour in points]
    placed = label_ends(axes, right, ends, name_height(axes, figure))
    for (x, y, _, colour), height in zip(points, placed, strict=True):
        axes.plot([x, right], [y, height], color=colour, linewidth=0.6, alpha=0.45)
    axes.set_xlim(right=right)
    axes.set_ylim(bottom, top)


def spread_out(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move ascending values apart as little as possible, in the sum of squares.

    Args:
        values: In ascending order.
        gap: Least distance of two; less where there is not enough room.
        low: None ends below.
        high: None ends above.

    Returns:
        The moved values.
    """
    low, high = sorted((low, high))
    gap = min(gap, (high - low) / max(1, len(values) - 1))
    groups: list[tuple[float, int]] = []  # without the gaps: values that end at a common place
    for i, value in enumerate(values):
        mean, count = value - i * gap, 1
        while groups and groups[-1][0] > mean:
            before, others = groups.pop()
            mean, count = (before * others + mean * count) / (others + count), others + count
        groups.append((mean, count))
    places = [mean for mean, count in groups for _ in range(count)]
    room = high - (len(values) - 1) * gap
    return [min(max(place, low), room) + i * gap for i, place in enumerate(places)]


def thin(count: int, most: int) -> list[int]:
    """Choose at most ``most`` evenly spaced positions of ``count``, the first one included."""
    step = max(1, -(-count // most))
    return list(range(0, count, step))


def _inline(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1
    )
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px )[^;\"]*", r"\1var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
