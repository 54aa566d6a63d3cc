"""Where every method stands: its clients' accuracies, and its difference to the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.comparison.paired import Difference
from eval.comparison.tables import interval
from eval.report.contenders import (
    Contender,
    Limits,
    LimitsOf,
    cut_note,
    looks_of,
    robust_limits,
    whole_limits,
)
from eval.report.structure import Table
from eval.report.style import (
    INK,
    MUTED,
    PALETTE,
    PERCENT,
    SMALL,
    Picture,
    grid,
    new_figure,
    picture,
    short,
    styled,
)
from eval.report.svg import tell

TALL = 12
_SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)  # quantiles of the clients, in the table


@styled
def standings(
    contenders: Sequence[Contender], reference: str | None, models: str = "clients"
) -> Picture:
    """Draw the clients' accuracies and the paired differences, one row a method.

    Args:
        contenders: The methods.
        reference: Name of the one that differences are against; ``None`` without any.
        models: What differences are of, ``clients`` or the ``global`` models.

    Returns:
        The picture.
    """
    rows = sorted(contenders, key=lambda one: one.mean)
    keys = {name: look.key for name, look in looks_of(contenders).items()}
    lows, highs = [min(one.clients) for one in rows], [max(one.clients) for one in rows]
    low, _ = robust_limits(lows, highs)
    cut = [(one.name, worst) for one, worst in zip(rows, lows, strict=True) if worst < low]
    caption = "Each dot is one client, and the bar with its figure is the mean over clients."
    stretched = bool(cut)
    if known := [one.difference for one in rows if one.difference is not None]:
        stretched |= _reach(known, robust_limits) != _reach(known, whole_limits)
        caption = (
            "Left, each dot is one client of one seed and the bar is the mean over seeds; right, "
            "the mean difference to the reference with its 95% interval, paired as the table says: "
            "filled dots have an interval without zero. An arrow at an edge is a value beyond it."
        )
    values = [
        (
            one.name,
            *(f"{100 * value:.1f}%" for value in (one.mean, *np.quantile(one.clients, _SHOWN))),
        )
        for one in reversed(rows)
    ]
    headings = ("method", "mean", "lowest client", "lower quartile", "median", "upper quartile",
                "highest client")  # fmt: skip
    against = _Against(reference, models)
    return picture(
        _drawn(rows, keys, against, robust_limits),
        "Every method's clients and its difference",
        caption + cut_note(cut),
        Table(headings, values, keys=[keys[one.name] for one in reversed(rows)]),
        _drawn(rows, keys, against, whole_limits) if stretched else None,
    )


@dataclass(frozen=True)
class _Against:
    """What differences are against, and of: see `standings`."""

    reference: str | None
    models: str


def _drawn(
    rows: Sequence[Contender], keys: Mapping[str, str], against: _Against, limits: LimitsOf
) -> Figure:
    paired = any(one.difference for one in rows)
    figure, panels = new_figure(
        0.34 * len(rows) + 1.0, 1 + paired, width_ratios=[1.5, 1][: 1 + paired], sharey=True
    )
    axes = panels[0]
    low, high = limits([min(one.clients) for one in rows], [max(one.clients) for one in rows])
    for row, one in reversed(list(enumerate(rows))):
        _clients(axes, row, one, low, keys[one.name])
        bar = axes.plot(
            [max(one.mean, low)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=2.2
        )
        figure_at_end = axes.annotate(
            f"{100 * one.mean:.1f}%",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            fontsize=SMALL,
        )
        for artist in (*bar, figure_at_end):
            tip = f"{one.name}: mean {100 * one.mean:.2f}%"
            tell(artist, tip, keys[one.name], echo=artist is figure_at_end)
    margin = 0.03 * (high - low) or 0.03
    axes.set_xlim(low - margin, high + margin)
    axes.set_yticks(range(len(rows)), [one.name for one in rows])
    for text, one in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(INK)
        tell(text, f"{one.name}: mean {100 * one.mean:.2f}%", keys[one.name], echo=True)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("accuracy of the personal models")
    axes.spines["left"].set_visible(False)
    _ticks_above(axes, len(rows))
    grid(axes, "x")
    if paired:
        _differences(panels[1], rows, keys, against, limits)
    return figure


def _clients(axes: Axes, row: int, one: Contender, low: float, key: str) -> None:
    """Draw a method's clients, those beyond the axis as arrows at its edge."""
    values = np.array(one.clients)
    whose = one.whose or [""] * len(values)
    tips = [
        f"{one.name}{', ' * bool(w)}{w}: {100 * v:.1f}%" for w, v in zip(whose, values, strict=True)
    ]
    jitter = 0.5 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
    size = float(np.clip(900 / len(values), 5, 22))
    beyond = values < low
    for chosen, marker in ((~beyond, "o"), (beyond, "<")):
        if chosen.any():
            points = axes.scatter(
                np.maximum(values[chosen], low),
                (row + jitter)[chosen],
                s=size if marker == "o" else max(size, 14),
                color=PALETTE[0],
                marker=marker,
                clip_on=False,
                alpha=0.5 if marker == "o" else 0.8,
                linewidths=0,
            )
            tell(points, [tips[i] for i in np.flatnonzero(chosen)], key)


def _differences(
    axes: Axes,
    rows: Sequence[Contender],
    keys: Mapping[str, str],
    against: _Against,
    limits: LimitsOf,
) -> None:
    """Draw the differences, those beyond the axis as arrows at its edge."""
    low, high = _reach([one.difference for one in rows if one.difference is not None], limits)
    margin = 0.04 * (high - low) or 0.01
    axes.set_xlim(100 * (low - margin), 100 * (high + margin))
    axes.axvline(0, color=MUTED, linewidth=0.9)
    for row, one in reversed(list(enumerate(rows))):
        gap = one.difference
        if gap is None:
            without = "no global model" if against.models == "global" else "no seed in common"
            text = "reference" if one.name == against.reference else without
            axes.annotate(text, (0, row), xytext=(6, 0), textcoords="offset points",
                          va="center", color=MUTED, fontsize=SMALL)  # fmt: skip
            continue
        colour = PALETTE[0] if gap.mean >= 0 else PALETTE[1]
        drawn: list[Artist] = []
        if gap.low is not None and gap.high is not None:
            ends = [100 * gap.low, 100 * gap.high]
            drawn += axes.plot(ends, [row, row], color=colour, linewidth=1.6)
        beyond = "<" if gap.mean < low else ">" if gap.mean > high else "o"
        drawn.append(
            axes.scatter(
                100 * min(max(gap.mean, low), high),
                row,
                s=34,
                marker=beyond,
                facecolors=colour if gap.clear else "none",
                edgecolors=colour,
                linewidths=1.4,
                zorder=3,
            )
        )
        for artist in drawn:
            tip = f"{one.name}: {interval(gap)} points"
            tell(artist, tip, keys[one.name], echo=artist is not drawn[-1])
    of = ", global models" if against.models == "global" else ""
    axes.set_xlabel(f"points better than {short(against.reference or '')}{of}")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelleft=False)
    _ticks_above(axes, len(rows))
    grid(axes, "x")


def _reach(known: Sequence[Difference], limits: LimitsOf) -> Limits:
    """Limits of the axis of some differences, zero among them."""
    low, high = limits(
        [one.mean if one.low is None else one.low for one in known],
        [one.mean if one.high is None else one.high for one in known],
    )
    return min(low, 0.0), max(high, 0.0)


def _ticks_above(axes: Axes, rows: int) -> None:
    """Write a tall picture's figures above it, too."""
    axes.tick_params(axis="x", labeltop=rows > TALL)
