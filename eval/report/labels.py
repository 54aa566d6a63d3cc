"""Names beside the ends of lines and beside points, moved apart where they would collide."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from eval.report.colours import Dash
from eval.report.style import SMALL
from eval.report.svg import tell

_LEADER = 22  # points from the end of a line to its name, that a leader in its dashes fills


@dataclass(frozen=True)
class End:
    """Where a line or a point is named.

    Attributes:
        y: Its height, in data coordinates.
        name: Its name.
        colour: Its colour.
        key: What a click on the name picks; empty for nothing.
        dashes: Its dashes.
        marker: Its marker; empty for none.
        tip: What the pointer is told over the name; empty for the name alone.
    """

    y: float
    name: str
    colour: str
    key: str = ""
    dashes: Dash = "-"
    marker: str = ""
    tip: str = ""


def label_ends(axes: Axes, x: float, ends: Sequence[End], gap: float) -> list[float]:
    """Write names beside the right ends of lines, with leaders that look like the lines.

    Args:
        axes: Where the lines are; names stay between their bottom and top.
        x: Right end of the lines in data coordinates.
        ends: The lines' ends; one outside the axes is named at their edge, and one that is not a
            number (of a run that diverged) at the bottom.
        gap: Least distance of two names in data coordinates.

    Returns:
        Where each name stands, in the order of ``ends``.
    """
    bottom, top = sorted(axes.get_ylim())
    order = sorted(range(len(ends)), key=lambda i: (not isnan(ends[i].y), ends[i].y, ends[i].name))
    at = [bottom if isnan(ends[i].y) else min(max(ends[i].y, bottom), top) for i in order]
    heights = spread_out(at, gap, bottom, top)
    whole = cast("Figure", axes.figure)  # `get_figure(root=True)` is younger than our lower bound
    beside = offset_copy(axes.transData, whole, x=_LEADER + 5, units="points")
    for start, height, end in zip(at, heights, (ends[i] for i in order), strict=True):
        note = axes.annotate(
            end.name,
            (x, start),
            (x, height),
            textcoords=beside,
            va="center",
            color=end.colour,
            fontsize=SMALL,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linestyle": end.dashes,
                "linewidth": 1.2,
                "relpos": (0, 0.5),
                "shrinkA": 3,
                "shrinkB": 3,
            },
        )
        for artist in (note, note.arrow_patch):
            if artist is not None:
                tell(artist, end.tip or end.name, end.key, echo=True)
    return [heights[order.index(i)] for i in range(len(ends))]


def name_height(axes: Axes, figure: Figure) -> float:
    """Room that a name needs beside the only axes of a figure, in data coordinates."""
    bottom, top = axes.get_ylim()
    return 0.2 / (figure.get_figheight() - 0.8) * (top - bottom)


def scatter(axes: Axes, points: Sequence[tuple[float, End]], figure: Figure) -> None:
    """Draw named points, with their names in a column on the right that thin lines lead to.

    Args:
        axes: Where; the limits are set already, and a point outside them is drawn at their edge.
        points: (x, where and how) of each.
        figure: Theirs.
    """
    bottom, top = axes.get_ylim()
    right = axes.get_xlim()[1]
    label_ends(axes, right, [end for _, end in points], name_height(axes, figure))
    for x, end in points:
        y = min(max(end.y, bottom), top)
        point = axes.scatter(
            [x],
            [y],
            s=44,
            color=end.colour,
            marker=end.marker or "o",
            linewidths=0,
            zorder=3,
            clip_on=False,
        )
        (line,) = axes.plot([x, right], [y, y], color=end.colour, linewidth=0.6, alpha=0.45)
        tell(point, end.tip or end.name, end.key)
        tell(line, end.tip or end.name, end.key, echo=True)
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
