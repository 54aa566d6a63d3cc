"""Plots that compare several methods on one task."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

from eval.comparison.paired import Difference
from eval.report.style import (
    INK,
    MUTED,
    PALETTE,
    PERCENT,
    Picture,
    grid,
    label_ends,
    name_height,
    new_figure,
    picture,
    scatter,
    styled,
)

BANDS = 4  # more methods than this are drawn without the spread over seeds
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))


@dataclass(frozen=True)
class Contender:
    """One method on one task, over all its seeds.

    Attributes:
        name: Its label.
        curves: For each seed, the evaluated rounds and the mean accuracy after each.
        clients: Accuracy of every client of every seed after the last round.
        difference: Against the reference; ``None`` for the reference or without one.
        bytes_per_round: Payload down and up, over all clients of a round.
        epsilon: Largest privacy loss of a client; ``None`` without differential privacy.
    """

    name: str
    curves: Sequence[tuple[Sequence[int], Sequence[float]]]
    clients: Sequence[float]
    difference: Difference | None
    bytes_per_round: float
    epsilon: float | None

    @property
    def mean(self) -> float:
        """Mean accuracy after the last round."""
        return float(np.mean([values[-1] for _, values in self.curves]))


def colours(names: Sequence[str]) -> dict[str, tuple[str, object]]:
    """Give every name a colour and a dash pattern, the same in all pictures of a task."""
    return {
        name: (PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE)) % len(DASHES)])
        for i, name in enumerate(names)
    }


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
    paired = any(one.difference for one in rows)
    figure, panels = new_figure(
        0.34 * len(rows) + 1.0, 1 + paired, width_ratios=[1.5, 1][: 1 + paired], sharey=True
    )
    axes = panels[0]
    for row, one in enumerate(rows):
        values = np.array(one.clients)
        jitter = 0.5 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
        size = float(np.clip(900 / len(values), 5, 22))
        axes.scatter(
            values,
            row + jitter,
            s=size,
            color=PALETTE[0],
            alpha=0.35,
            linewidths=0,
            rasterized=False,
        )
        axes.plot([one.mean] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=2.2)
        axes.annotate(
            f"{100 * one.mean:.1f}%",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            fontsize=8.5,
        )
    axes.set_yticks(range(len(rows)), [one.name for one in rows])
    for text in axes.get_yticklabels():
        text.set_color(INK)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("accuracy of the personal models")
    axes.spines["left"].set_visible(False)
    grid(axes, "x")
    if paired:
        _differences(panels[1], rows, reference or "", models)
    if not paired:
        return picture(
            figure, "Each dot is one client, and the bar with its figure is the mean over clients."
        )
    return picture(
        figure,
        "Left, each dot is one client of one seed and the bar is the mean over seeds; right, the "
        "mean difference to the reference with its 95% interval, paired as the table says: "
        "filled dots have an interval without zero.",
    )


def _differences(
    axes: matplotlib.axes.Axes, rows: Sequence[Contender], reference: str, models: str
) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.9)
    for row, one in enumerate(rows):
        gap = one.difference
        if gap is None:
            without = "no global model" if models == "global" else "no seed in common"
            text = "reference" if one.name == reference else without
            axes.annotate(text, (0, row), xytext=(6, 0), textcoords="offset points",
                          va="center", color=MUTED, fontsize=8)  # fmt: skip
            continue
        colour = PALETTE[0] if gap.mean >= 0 else PALETTE[1]
        if gap.low is not None and gap.high is not None:
            axes.plot([100 * gap.low, 100 * gap.high], [row, row], color=colour, linewidth=1.6)
        axes.scatter(
            100 * gap.mean,
            row,
            s=34,
            facecolors=colour if gap.clear else "none",
            edgecolors=colour,
            linewidths=1.4,
            zorder=3,
        )
    of = ", global models" if models == "global" else ""
    axes.set_xlabel(f"points better than {reference}{of}")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelleft=False)
    grid(axes, "x")


@styled
def curves(contenders: Sequence[Contender]) -> Picture | None:
    """Draw mean accuracy by round; ``None`` where nothing was evaluated twice."""
    looks = colours([one.name for one in contenders])
    moving = [one for one in contenders if len(one.curves[0][0]) > 1]
    if not moving:
        return None
    last = max(max(rounds) for one in moving for rounds, _ in one.curves)
    first = min(min(rounds) for one in moving for rounds, _ in one.curves)
    figure, (axes,) = new_figure(max(3.2, 0.26 * len(contenders) + 1.2))
    ends = []
    for one in contenders:
        colour, dash = looks[one.name]
        if one not in moving:
            axes.axhline(one.mean, color=colour, linewidth=1.1, linestyle=(0, (4, 3)))
            ends.append((one.mean, one.name, colour))
            continue
        rounds = np.array(one.curves[0][0])
        values = np.array([means for at, means in one.curves if list(at) == rounds.tolist()])
        mean = values.mean(0)
        if len(values) > 1 and len(moving) <= BANDS:
            std = values.std(0, ddof=1)
            axes.fill_between(rounds, mean - std, mean + std, color=colour, alpha=0.08, linewidth=0)
        axes.plot(rounds, mean, color=colour, linestyle=dash)
        ends.append((float(mean[-1]), one.name, colour))
    band = ", with one standard deviation over seeds around it" if len(moving) <= BANDS else ""
    axes.set_xlim(first, last)
    label_ends(axes, last, ends, name_height(axes, figure))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="round", ylabel="personalised accuracy, mean over clients")
    grid(axes)
    return picture(
        figure,
        f"Mean over clients and seeds after each round{band}; a dashed horizontal line is a method "
        "without rounds.",
    )


@styled
def accuracy_by_traffic(contenders: Sequence[Contender]) -> Picture | None:
    """Draw accuracy against payload; ``None`` where all that send anything send the same."""
    by_budget = sorted(contenders, key=lambda one: one.epsilon or 0.0)
    latest = {_family(one): one for one in by_budget if one.bytes_per_round > 0}
    senders = list(latest.values())  # of a method at several budgets, the least private
    if len({round(one.bytes_per_round) for one in senders}) < 2:
        return None
    figure, (axes,) = new_figure(max(3.2, 0.2 * len(senders) + 1.2))
    sizes = [one.bytes_per_round / 1024 for one in senders]
    if max(sizes) > 8 * min(sizes):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(sizes) / 1.5, 1.5 * max(sizes))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.set_xlim(0, 1.25 * max(sizes))
    looks = colours([one.name for one in contenders])
    scatter(
        axes,
        [
            (x, one.mean, one.name, looks[one.name][0])
            for x, one in zip(sizes, senders, strict=True)
        ],
        figure,
    )
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("personalised accuracy")
    grid(axes)
    axes.set_xlabel("KiB a round, down and up, over all clients of the round")
    return picture(figure, "Further left is cheaper and further up is better.")


@styled
def accuracy_by_epsilon(contenders: Sequence[Contender]) -> Picture | None:
    """Draw accuracy against privacy loss; ``None`` unless there are two levels of it."""
    private = [one for one in contenders if one.epsilon is not None]
    levels = {one.epsilon for one in contenders}
    if not private or len(levels) < 2:
        return None
    families: dict[str, list[Contender]] = {}
    for one in sorted(contenders, key=lambda one: one.epsilon or 0.0):
        families.setdefault(_family(one), []).append(one)
    figure, (axes,) = new_figure(max(3.4, 0.24 * len(families) + 1.4))
    looks, ends = colours(list(families)), []
    largest = max(one.epsilon or 0.0 for one in private)
    for family, members in families.items():
        colour, dash = looks[family]
        accuracy = [one.mean for one in members]
        if members[0].epsilon is None:
            axes.axhline(accuracy[-1], color=colour, linewidth=1, linestyle=(0, (4, 3)))
        else:
            epsilons = [one.epsilon or 0.0 for one in members]
            axes.plot(epsilons, accuracy, color=colour, linestyle=dash, marker="o", markersize=5)
        ends.append((accuracy[-1], family, colour))
    axes.set_xscale("log")
    axes.set_xlim(right=largest)
    label_ends(axes, largest, ends, name_height(axes, figure))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(
        xlabel="epsilon, the largest that a client has spent (smaller is more private)",
        ylabel="personalised accuracy",
    )
    grid(axes)
    return picture(
        figure,
        "Each line is one private method at several budgets, more private to the left; dashed "
        "horizontal lines are methods without privacy (no bound).",
    )


def _family(one: Contender) -> str:
    """Strip the budget off a private method's name: ``PromptFL, epsilon 8`` is ``PromptFL``."""
    if one.epsilon is None:
        return one.name
    return re.sub(r"[,;]?\s*(?:epsilon|eps|ε)\s*=?\s*[\d.]+$", "", one.name) or one.name
