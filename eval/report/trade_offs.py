"""What accuracy costs: against traffic, and against privacy."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from eval.report.contenders import (
    Contender,
    Limits,
    Look,
    below,
    cut_note,
    looks_of,
    robust_limits,
    whole_limits,
)
from eval.report.labels import End, label_ends, name_height, scatter
from eval.report.structure import Table
from eval.report.style import PERCENT, Picture, grid, new_figure, picture, styled
from eval.report.svg import tell

_PLAIN = FuncFormatter(lambda x, _: f"{x:g}")


@styled
def accuracy_by_traffic(contenders: Sequence[Contender]) -> Picture | None:
    """Draw accuracy against payload; ``None`` where all that send anything send the same."""
    by_budget = sorted(contenders, key=lambda one: one.epsilon or 0.0)
    latest = {one.setting: one for one in by_budget if one.bytes_per_round > 0}
    senders = list(latest.values())  # of a method at several budgets, the least private
    if len({round(one.bytes_per_round) for one in senders}) < 2:
        return None
    senders.sort(key=lambda one: one.bytes_per_round)
    sizes = [one.bytes_per_round / 1024 for one in senders]
    means = [one.mean for one in senders]
    looks = looks_of(contenders)
    bulk, whole = robust_limits(means, means), whole_limits(means, means)
    return picture(
        _by_traffic(senders, sizes, looks, bulk),
        "Accuracy against traffic",
        "Further left is cheaper and further up is better."
        + cut_note([(one.name, one.mean) for one in senders if one.mean < bulk[0]]),
        Table(
            ("method", "KiB a round", "accuracy"),
            [
                (one.name, f"{x:.4g}", f"{100 * one.mean:.1f}%")
                for x, one in zip(sizes, senders, strict=True)
            ],
            keys=[looks[one.name].key for one in senders],
        ),
        None if bulk == whole else _by_traffic(senders, sizes, looks, whole),
    )


def _by_traffic(
    senders: Sequence[Contender],
    sizes: Sequence[float],
    looks: Mapping[str, Look],
    limits: Limits,
) -> Figure:
    figure, (axes,) = new_figure(max(3.2, 0.2 * len(senders) + 1.2))
    if max(sizes) > 8 * min(sizes):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(sizes) / 1.5, 1.5 * max(sizes))
        axes.xaxis.set_major_formatter(_PLAIN)
    else:
        axes.set_xlim(0, 1.25 * max(sizes))
    low, high = limits
    margin = 0.08 * (high - low) or 0.02
    axes.set_ylim(low - margin, high + margin)
    points = []
    for x, one in zip(sizes, senders, strict=True):
        look, tip = looks[one.name], f"{one.name}: {100 * one.mean:.1f}% at {x:.4g} KiB a round"
        name = below(one.name, one.mean) if one.mean < low else one.name
        end = End(one.mean, name, look.colour, look.key, "-", look.marker, tip)
        points.append((x, end))
    scatter(axes, points, figure)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("personalised accuracy")
    grid(axes)
    axes.set_xlabel("KiB a round, down and up, over all clients of the round")
    return figure


@styled
def accuracy_by_epsilon(contenders: Sequence[Contender]) -> Picture | None:
    """Draw accuracy against privacy loss; ``None`` unless there are two levels of it."""
    private = [one for one in contenders if one.epsilon is not None]
    levels = {one.epsilon for one in contenders}
    if not private or len(levels) < 2:
        return None
    settings: dict[str, list[Contender]] = {}
    for one in sorted(contenders, key=lambda one: one.epsilon or 0.0):
        settings.setdefault(one.setting, []).append(one)
    figure, (axes,) = new_figure(max(3.4, 0.24 * len(settings) + 1.4))
    looks, ends, rows = looks_of(contenders), [], []
    largest = max(one.epsilon or 0.0 for one in private)
    for name, members in settings.items():
        look = looks[members[-1].name]
        accuracy = [one.mean for one in members]
        tips = [_tip(one) for one in members]
        if members[0].epsilon is None:
            line = axes.axhline(accuracy[-1], color=look.colour, linewidth=1, linestyle=(0, (4, 3)))
        else:
            epsilons = [one.epsilon or 0.0 for one in members]
            (line,) = axes.plot(
                epsilons,
                accuracy,
                color=look.colour,
                linestyle=look.dashes,
                marker=look.marker,
                markersize=5,
            )
        tell(line, tips, look.key)
        ends.append(End(accuracy[-1], name, look.colour, look.key, look.dashes, tip=tips[-1]))
        rows += [(one.name, _level(one), f"{100 * one.mean:.1f}%") for one in members]
    axes.set_xscale("log")
    axes.set_xlim(right=largest)
    label_ends(axes, largest, ends, name_height(axes, figure))
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(
        xlabel="epsilon, the largest that a client has spent (smaller is more private)",
        ylabel="personalised accuracy",
    )
    grid(axes)
    return picture(
        figure,
        "Accuracy against privacy",
        "Each line is one private method at several budgets, more private to the left; dashed "
        "horizontal lines are methods without privacy (no bound).",
        Table(("method", "epsilon", "accuracy"), rows),
    )


def _level(one: Contender) -> str:
    return "no bound" if one.epsilon is None else f"{one.epsilon:.3g}"


def _tip(one: Contender) -> str:
    return f"{one.name}: {100 * one.mean:.1f}%, epsilon {_level(one)}"
