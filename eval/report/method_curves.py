"""Learning curves of several methods: all in one picture, and family by family."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.report.contenders import (
    Contender,
    Limits,
    LimitsOf,
    Look,
    below,
    cut_note,
    looks_of,
    robust_limits,
    whole_limits,
)
from eval.report.families import families
from eval.report.labels import End, label_ends, name_height
from eval.report.structure import Table
from eval.report.style import PERCENT, RULE, WIDTH, Picture, grid, new_figure, picture, styled, thin
from eval.report.svg import tell

BANDS = 4  # more methods than this are drawn without the spread over seeds
CROWD = 8  # more methods than this are drawn family by family, too
COLUMNS = 12  # rounds in the table of values

_STILL = (0, (4, 3))
_MARGIN = 0.2  # inches, less than what is below the lowest axes


@styled
def curves(contenders: Sequence[Contender]) -> Picture | None:
    """Draw mean accuracy by round; ``None`` where nothing was evaluated twice."""
    moving = _moving(contenders)
    if not moving:
        return None
    bulk, whole = _limits(contenders), _limits(contenders, whole_limits)
    band = ", with one standard deviation over seeds around it" if len(moving) <= BANDS else ""
    return picture(
        _all_lines(contenders, bulk),
        "Accuracy of every method by round",
        f"Mean over clients and seeds after each round{band}; a dashed horizontal line is a method "
        f"without rounds.{_cut(contenders, bulk[0])}",
        _values(contenders, looks_of(contenders)),
        None if bulk == whole else _all_lines(contenders, whole),
    )


def _all_lines(contenders: Sequence[Contender], limits: Limits) -> Figure:
    moving, looks = _moving(contenders), looks_of(contenders)
    figure, (axes,) = new_figure(max(3.2, 0.26 * len(contenders) + 1.2))
    _frame(axes, moving, limits)
    for one in contenders:
        if one in moving and len(moving) <= BANDS:
            _band(axes, one, looks[one.name])
        _line(axes, one, looks[one.name], moving)
    last = axes.get_xlim()[1]
    ends = [_end(one, looks[one.name], moving, limits[0]) for one in contenders]
    label_ends(axes, last, ends, name_height(axes, figure))
    axes.set(xlabel="round", ylabel="personalised accuracy, mean over clients")
    return figure


@styled
def curves_by_family(contenders: Sequence[Contender]) -> Picture | None:
    """Draw the same in one panel a family; ``None`` for so few that one picture has them all."""
    moving = _moving(contenders)
    present = [name for name in families() if any(one.family == name for one in contenders)]
    if not moving or len(contenders) <= CROWD or len(present) < 2:
        return None
    bulk, whole = _limits(contenders), _limits(contenders, whole_limits)
    return picture(
        _panels(contenders, present, bulk),
        "Accuracy by round, family by family",
        "One panel a family of methods, on the same axes; grey lines are the methods of the other "
        f"families.{_cut(contenders, bulk[0])}",
        _values(
            sorted(contenders, key=lambda one: present.index(one.family)), looks_of(contenders)
        ),
        None if bulk == whole else _panels(contenders, present, whole),
    )


def _panels(contenders: Sequence[Contender], present: Sequence[str], limits: Limits) -> Figure:
    moving, looks = _moving(contenders), looks_of(contenders)
    members = {name: [one for one in contenders if one.family == name] for name in present}
    rows = [present[i : i + 2] for i in range(0, len(present), 2)]
    heights = [max(1.9, 0.19 * max(len(members[name]) for name in row) + 0.9) for row in rows]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    places = figure.add_gridspec(len(rows), 2, height_ratios=heights)
    for i, family in enumerate(present):
        axes = figure.add_subplot(places[i // 2, i % 2])
        _frame(axes, moving, limits)
        for one in contenders:
            if one.family != family:
                at, means = _mean(one, moving)
                axes.plot(at, _inside(axes, means), color=RULE, linewidth=0.8, zorder=1)
        for one in members[family]:
            _line(axes, one, looks[one.name], moving, marked=True)
        ends = [_end(one, looks[one.name], moving, limits[0]) for one in members[family]]
        bottom, top = axes.get_ylim()
        gap = 0.175 / (heights[i // 2] - 0.75) * (top - bottom)
        label_ends(axes, axes.get_xlim()[1], ends, gap)
        axes.set_title(family)
        axes.set_xlabel("round")
    return figure


def _moving(contenders: Sequence[Contender]) -> list[Contender]:
    return [one for one in contenders if len(one.curves[0][0]) > 1]


def _mean(one: Contender, moving: Sequence[Contender]) -> tuple[list[float], list[float]]:
    """A method's rounds and its means over the seeds with the same rounds as the first."""
    if one not in moving:
        every = [at for each in moving for at, _ in each.curves]
        return [min(map(min, every)), max(map(max, every))], [one.mean] * 2
    rounds = list(one.curves[0][0])
    values = np.array([means for at, means in one.curves if list(at) == rounds])
    return [float(at) for at in rounds], [float(value) for value in values.mean(0)]


def _limits(contenders: Sequence[Contender], chosen: LimitsOf = robust_limits) -> Limits:
    moving = _moving(contenders)
    means = [_mean(one, moving)[1] for one in contenders]
    low, high = chosen([min(each) for each in means], [max(each) for each in means])
    margin = 0.04 * (high - low) or 0.02
    return low - margin, high + margin


def _cut(contenders: Sequence[Contender], low: float) -> str:
    moving = _moving(contenders)
    lows = [(one.name, min(_mean(one, moving)[1])) for one in contenders]
    return cut_note([(name, value) for name, value in lows if value < low])


def _inside(axes: Axes, values: Sequence[float]) -> list[float]:
    """Let a line go on just below its axes: beyond the figure it would lose its corners."""
    low, high = axes.get_ylim()
    margin = _MARGIN / cast("Figure", axes.figure).get_figheight()
    return [max(value, low - margin * (high - low)) for value in values]


def _frame(axes: Axes, moving: Sequence[Contender], limits: Limits) -> None:
    rounds = [at for one in moving for at, _ in one.curves]
    axes.set_xlim(min(map(min, rounds)), max(map(max, rounds)))
    axes.set_ylim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_formatter(PERCENT)
    grid(axes)


def _band(axes: Axes, one: Contender, look: Look) -> None:
    rounds = list(one.curves[0][0])
    values = np.array([means for at, means in one.curves if list(at) == rounds])
    if len(values) > 1:
        mean, std = values.mean(0), values.std(0, ddof=1)
        axes.fill_between(
            rounds, mean - std, mean + std, color=look.colour, alpha=0.08, linewidth=0
        )


def _line(
    axes: Axes, one: Contender, look: Look, moving: Sequence[Contender], *, marked: bool = False
) -> None:
    rounds, means = _mean(one, moving)
    still = one not in moving
    (line,) = axes.plot(
        rounds,
        _inside(axes, means),
        color=look.colour,
        linestyle=_STILL if still else look.dashes,
        linewidth=1.1 if still else 1.8,
        marker=look.marker if marked and not still else None,
        markersize=4,
        markevery=thin(len(rounds), 8),
    )
    tips = [
        f"{one.name}, round {at:g}: {100 * v:.1f}%" for at, v in zip(rounds, means, strict=True)
    ]
    tell(line, f"{one.name}: {100 * one.mean:.1f}%" if still else tips, look.key)


def _end(one: Contender, look: Look, moving: Sequence[Contender], low: float) -> End:
    dashes = look.dashes if one in moving else _STILL
    value = _mean(one, moving)[1][-1]
    tip = f"{one.name}: {100 * value:.1f}%"
    name = below(one.name, value) if value < low else one.name
    return End(value, name, look.colour, look.key, dashes, look.marker, tip)


def _values(contenders: Sequence[Contender], looks: dict[str, Look]) -> Table:
    moving = _moving(contenders)
    rounds = sorted({at for one in moving for at in one.curves[0][0]})
    shown = sorted({*(rounds[i] for i in thin(len(rounds), COLUMNS)), rounds[-1]})
    rows = []
    for one in contenders:
        if one in moving:
            at, means = _mean(one, moving)
            known = dict(zip(at, means, strict=True))
        else:
            known = dict.fromkeys(rounds, one.mean)
        texts = (f"{100 * known[r]:.1f}%" if r in known else "-" for r in shown)
        rows.append((one.name, one.family, *texts))
    headings = ("method", "family", *(f"round {at}" for at in shown))
    return Table(headings, rows, keys=[looks[one.name].key for one in contenders])
