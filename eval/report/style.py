"""The style of every picture: readable on light and dark pages and by colour-blind readers.

Pictures are inline SVG whose colours become CSS variables of the page, so that they follow its
light or dark theme. Heat maps fade into the page instead of into white.
"""

import io
import warnings
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from eval.escaping import for_terminal
from eval.report.colours import INK, MARKERS, MUTED, PALETTE, PAPER, RULE
from eval.report.raster import rasterise
from eval.report.structure import Picture, Table
from eval.report.svg import inline

__all__ = ["INK", "MARKERS", "MUTED", "PALETTE", "PAPER", "RULE", "Picture"]

WIDTH = 9.2  # inches of a full-width picture; one inch is 72 units of its view box
SMALL = 8.5
"""Least size of a text; a page shows no picture at less than 1.3 pixels a unit: 11 pixels."""
LONGEST_NAME = 32
"""Characters of a name in a picture; its tips and its table have the whole."""
UNDER_TEXT = 0.7
"""How opaque cells with figures in them may be: ink then stands out by 4.5:1 in both themes."""

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
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "text.parse_math": False,  # names may hold any character
    "lines.linewidth": 1.8,
    "path.simplify": False,  # the page's script looks for every corner
    "svg.fonttype": "none",
    "svg.hashsalt": "pfedmoap",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g}%")

styled = matplotlib.rc_context(RC)
"""Decorates every function that draws: matplotlib reads its settings at each call."""


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


def picture(
    figure: Figure, title: str, caption: str, values: Table, whole: Figure | None = None
) -> Picture:
    """Turn a figure into inline SVG that follows the page's theme and loads nothing.

    Args:
        figure: What is drawn.
        title: What it shows, in a few words.
        caption: How to read it.
        values: Its values.
        whole: The same with whole axes, where the figure's leave something out.

    Returns:
        The picture.
    """
    with warnings.catch_warnings():  # the browser has the letters that matplotlib's font lacks
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        shown = _as_svg(figure, title)
        rasterise(figure, caption)
        more = "" if whole is None else _as_svg(whole, f"{title}, whole axis")
    return Picture(shown, title, caption, values, more)


def _as_svg(figure: Figure, title: str) -> str:
    _show_as_it_is(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return inline(buffer.getvalue(), title)


def short(name: str, most: int = LONGEST_NAME) -> str:
    """Shorten a name in its middle where it would take the room of what it names.

    Args:
        name: Any name.
        most: How many characters there is room for; never fewer than three are shown.

    Example:
        >>> short("the hospital on the hill", 12)
        'the hos…hill'
    """
    most = max(3, most)
    end = most // 3
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def _show_as_it_is(figure: Figure) -> None:
    """Write characters of names that act, or that no file holds, as escapes; shorten long ones."""
    headings = {
        text
        for axes in figure.axes
        for text in (axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel())
    }
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):  # names of ticks are made by one
            axis.set_major_formatter(
                FuncFormatter(lambda value, at, f=formatter: short(for_terminal(f(value, at))))
            )
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            shown = for_terminal(text.get_text())
            text.set_text(shown if text.get_text() in headings else short(shown))


def grid(axes: Axes, axis: str = "y") -> None:
    """Draw light grid lines along one axis, without tick marks."""
    axes.grid(visible=True, axis="x" if axis == "x" else "y")
    axes.tick_params(length=0)


def fading(colour: str, most: float = 1.0) -> LinearSegmentedColormap:
    """Make a colour map from transparent to a colour, at most so opaque; see `UNDER_TEXT`."""
    rgb = matplotlib.colors.to_rgb(colour)
    return LinearSegmentedColormap.from_list("fading", [(*rgb, 0.0), (*rgb, most)])


def diverging(most: float = 1.0) -> LinearSegmentedColormap:
    """Make a colour map from one colour through transparent to another, at most so opaque."""
    below, above = matplotlib.colors.to_rgb(PALETTE[1]), matplotlib.colors.to_rgb(PALETTE[0])
    stops = [
        (0.0, (*below, most)),
        (0.5, (*below, 0.0)),
        (0.5, (*above, 0.0)),
        (1.0, (*above, most)),
    ]
    return LinearSegmentedColormap.from_list("diverging", stops)


def thin(count: int, most: int) -> list[int]:
    """Choose at most ``most`` evenly spaced positions of ``count``, the first one included."""
    step = max(1, -(-count // most))
    return list(range(0, count, step))
