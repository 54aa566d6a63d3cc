"""Pictures of accuracy client by client."""

import numpy as np

from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    PERCENT,
    RULE,
    Picture,
    grid,
    new_figure,
    picture,
    styled,
)
from eval.report.svg import tell


@styled
def accuracy_by_client(run: Evidence) -> Picture:
    """Draw every client's accuracy, ordered, between its references."""
    scores = sorted(run.scores, key=lambda one: (one.accuracy, one.client))
    count = len(scores)
    x = np.arange(count)
    personal = np.array([one.accuracy for one in scores])
    figure, (axes,) = new_figure(3.3)
    size = 46 if count <= 30 else max(9.0, 1400 / count)
    series = [(personal, "personal model", PALETTE[0], "o", True)]
    shared = [one.global_accuracy for one in scores]
    if None not in shared:
        series.append((np.array(shared, dtype=float), "global model", PALETTE[1], "D", False))
    if run.zero_shot is not None:
        plain = np.array([run.zero_shot[one.client] for one in scores])
        series.append((plain, "zero-shot", MUTED, "_", True))
    if len(series) > 1:  # from the strongest reference to the personal model
        base = series[1][0]
        axes.vlines(x, base, personal, color=RULE, linewidth=min(2.5, 180 / count), zorder=1)
    for values, name, colour, marker, filled in reversed(series):
        face = colour if filled else "none"
        points = axes.scatter(
            x,
            values,
            s=size * (0.6 if marker == "D" else 1.0),
            marker=marker,
            facecolors=colour if marker == "_" else face,
            edgecolors=None if marker == "_" else colour,
            linewidths=1.2,
            label=f"{name}, mean {100 * values.mean():.1f}%",
            zorder=4 if marker == "o" else 3,
            clip_on=False,
        )
        tips = [
            f"client {one.client}, {name}: {100 * value:.1f}%"
            for one, value in zip(scores, values, strict=True)
        ]
        tell(points, tips, [f"c{one.client}" for one in scores])
        axes.axhline(
            float(values.mean()), color=colour, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2
        )
    low = min(float(values.min()) for values, *_ in series)
    axes.set_ylim(max(-0.02, low - 0.06), 1.03)
    axes.set_xlim(-0.8, count - 0.2)
    axes.yaxis.set_major_formatter(PERCENT)
    ticks = list(range(count)) if count <= 40 else [0, *range(9, count, 10)]
    axes.set_xticks(ticks, [str(scores[i].client) if count <= 40 else str(i + 1) for i in ticks])
    axes.set_xlabel("client" if count <= 40 else "clients in the order of their accuracy (rank)")
    axes.set_ylabel("accuracy on own test images")
    grid(axes)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        names[::-1],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        handletextpad=0.4,
        labelcolor=INK,
        borderaxespad=0.2,
    )
    headings = ("client", *(name for _, name, *_ in series))
    rows = [
        (str(one.client), *(f"{100 * values[i]:.1f}%" for values, *_ in series))
        for i, one in enumerate(scores)
    ]
    return picture(
        figure,
        "Accuracy of every client",
        "Each column is one client, the worst on the left; the line shows what its personal model "
        "gains (or loses) over the global one, and dashed lines are means over clients.",
        Table(headings, rows, keys=[f"c{one.client}" for one in scores]),
    )


@styled
def accuracy_by_group(run: Evidence) -> Picture | None:
    """Draw the accuracies of the clients of each domain; ``None`` without domains."""
    if not run.task["domains"]:
        return None
    groups = [one.domain or "" for one in run.scores]
    names = [name for name in run.group_names() if name in groups]
    figure, (axes,) = new_figure(0.42 * len(names) + 0.9)
    rows = []
    for row, name in enumerate(names):
        members = [one for one in run.scores if one.domain == name]
        values = np.array([one.accuracy for one in members])
        rows.append(
            (
                name,
                str(len(members)),
                *(f"{100 * value:.1f}%" for value in (values.mean(), values.min(), values.max())),
            )
        )
        colour = PALETTE[row % len(PALETTE)]
        jitter = 0.16 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
        points = axes.scatter(
            values,
            row + jitter,
            s=26,
            color=colour,
            marker=MARKERS[row % len(MARKERS)],
            alpha=0.6,
            linewidths=0,
        )
        tips = [f"client {one.client}, {name}: {100 * one.accuracy:.1f}%" for one in members]
        tell(points, tips, [f"c{one.client}" for one in members])
        axes.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2)
        axes.annotate(
            f"{100 * values.mean():.1f}%",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("accuracy of the personal model")
    grid(axes, "x")
    return picture(
        figure,
        "Accuracy of the clients of each domain",
        "Each dot is one client of the domain, and the bar with its figure is their mean.",
        Table(("domain", "clients", "mean", "least", "most"), rows),
    )
