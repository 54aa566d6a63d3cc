"""A picture of which client holds images of which class."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray

from eval.escaping import for_terminal
from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
    PALETTE,
    PAPER,
    SMALL,
    UNDER_TEXT,
    Picture,
    fading,
    new_figure,
    picture,
    short,
    styled,
    thin,
)
from eval.report.svg import tell, tell_cells

ANNOTATED = 14  # at most so many clients and classes have their counts written in


@styled
def label_distribution(run: Evidence, division: str = "train") -> Picture:
    """Draw images by client and class as a heat map, with related clients adjacent."""
    order = run.ordered()
    ids = [str(run.ids[row]) for row in order]
    keys = [f"c{client}" for client in ids]
    counts = run.counts(division)[order].T  # (C, N)
    classes, clients = counts.shape
    height = float(np.clip(0.19 * classes, 1.5, 5.0)) + 0.9
    figure, (axes,) = new_figure(height)
    shares = np.sqrt(counts / max(1, counts.max()))
    annotated = clients <= ANNOTATED * 2 and classes <= ANNOTATED
    most = UNDER_TEXT if annotated else 1.0
    image = axes.imshow(
        shares, cmap=fading(PALETTE[0], most), vmin=0, vmax=1, aspect="auto", interpolation="none"
    )
    for (row, column), count in np.ndenumerate(counts if annotated else np.zeros((0, 0))):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color=INK, fontsize=SMALL)
    cell_edges(axes, classes, clients)
    unit = "images" if division == "train" else f"{division} images"
    tell_cells(
        image,
        "client {column}, {row}: {cell} " + unit,
        run.class_names,
        ids,
        counts.tolist(),
        keys,
    )
    ticks = list(range(clients)) if clients <= 40 else thin(clients, 25)
    axes.set_xticks(ticks, [ids[i] for i in ticks])
    names = run.class_names
    rows = list(range(classes)) if classes <= 34 else thin(classes, 20)
    axes.set_yticks(rows, [names[i] for i in rows])
    axes.set_xlabel("client" if clients <= 40 else "client (every few are named)")
    group_strip(run, axes, order)
    held = [
        (client, str(column.sum()), in_words(run.class_names, column))
        for client, column in zip(ids, counts.T, strict=True)
    ]
    return picture(
        figure,
        f"Who holds what: {unit} by client and class",
        f"Columns are clients, ordered so that related ones are neighbours; the stronger a cell's "
        f"colour, the more {unit} of the class the client holds (at most {counts.max()}, on a "
        "square-root scale).",
        Table(("client", unit, "of which, by class"), held, keys=keys),
    )


def group_strip(
    run: Evidence, axes: matplotlib.axes.Axes, order: list[int], room: int = 64
) -> None:
    """Mark the domains of the clients along the top edge, where there are domains.

    Args:
        run: The run.
        axes: Where the clients are columns.
        order: The clients' rows in the order of the columns.
        room: How many characters the edge has room for.
    """
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
        text = axes.text(
            (at[0] + at[-1]) / 2,
            1.06,
            short(for_terminal(name), room * len(at) // len(order) - 1),
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=colour,
        )
        tell(text, name, echo=True)


def in_words(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """Say how many there are of each that there are any of, the most first."""
    order = sorted(range(len(counts)), key=lambda i: (-counts[i], i))
    return ", ".join(f"{names[i]} {counts[i]}" for i in order if counts[i]) or "none"


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
