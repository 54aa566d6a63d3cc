"""A picture of which client holds images of which class."""

import matplotlib
import numpy as np

from eval.report.run_data import Evidence
from eval.report.style import (
    INK,
    PALETTE,
    PAPER,
    Picture,
    fading,
    new_figure,
    picture,
    styled,
    thin,
)

ANNOTATED = 14  # at most so many clients and classes have their counts written in


@styled
def label_distribution(run: Evidence, division: str = "train") -> Picture:
    """Draw images by client and class as a heat map, with related clients adjacent."""
    order = run.ordered()
    counts = run.counts(division)[order].T  # (C, N)
    classes, clients = counts.shape
    height = float(np.clip(0.19 * classes, 1.5, 5.0)) + 0.9
    figure, (axes,) = new_figure(height)
    shares = np.sqrt(counts / max(1, counts.max()))
    axes.imshow(
        shares, cmap=fading(PALETTE[0]), vmin=0, vmax=1, aspect="auto", interpolation="none"
    )
    if clients <= ANNOTATED * 2 and classes <= ANNOTATED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = PAPER if shares[row, column] > 0.6 else INK
                axes.text(
                    column, row, str(count), ha="center", va="center", color=colour, fontsize=7.5
                )
    cell_edges(axes, classes, clients)
    ticks = list(range(clients)) if clients <= 40 else thin(clients, 25)
    axes.set_xticks(ticks, [str(order[i]) for i in ticks])
    names = run.class_names
    rows = list(range(classes)) if classes <= 34 else thin(classes, 20)
    axes.set_yticks(rows, [names[i] for i in rows])
    axes.set_xlabel("client" if clients <= 40 else "client (every few are named)")
    group_strip(run, axes, order)
    unit = "images" if division == "train" else f"{division} images"
    return picture(
        figure,
        f"Columns are clients, ordered so that related ones are neighbours, and the darker a cell, "
        f"the more {unit} of the class the client holds (at most {counts.max()}, on a square-root "
        "scale).",
    )


def group_strip(run: Evidence, axes: matplotlib.axes.Axes, order: list[int]) -> None:
    """Mark the domains of the clients along the top edge, where there are domains."""
    if not run.task["domains"]:
        return
    groups = [run.groups()[i] for i in order]
    for i, name in enumerate(run.group_names()):
        at = [x for x, group in enumerate(groups) if group == name]
        colour = PALETTE[i % len(PALETTE)]
        axes.plot(
            [at[0] - 0.42, at[-1] + 0.42],
            [1.03, 1.03],
            transform=axes.get_xaxis_transform(),
            color=colour,
            linewidth=4,
            solid_capstyle="butt",
            clip_on=False,
        )
        axes.text(
            (at[0] + at[-1]) / 2,
            1.06,
            name,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=colour,
        )


def cell_edges(axes: matplotlib.axes.Axes, rows: int, columns: int) -> None:
    """Separate cells by thin lines in the page's colour if they are large enough."""
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.tick_params(which="minor", length=0)
    if columns <= 60 and rows <= 60:
        axes.grid(visible=True, which="minor", color=PAPER, linewidth=1.2)
