"""A map of the clients' prompts: the two directions in which they differ most."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray

from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    SMALL,
    Picture,
    new_figure,
    picture,
    styled,
)
from eval.report.svg import tell
from pfedmoap.wire.messages import ClientId


def principal_components(
    rows: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project points on the two directions of their largest variance.

    Args:
        rows: At least two points, (n, d).

    Returns:
        Coordinates (n, 2), signs fixed so that the largest one on each axis is positive, and the
        share of the variance along each axis, (2,).
    """
    centred = rows - rows.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(rows), 2))
    kept = min(2, len(values))
    places[:, :kept] = left[:, :kept] * values[:kept]
    for axis in range(2):
        if places[np.abs(places[:, axis]).argmax(), axis] < 0:
            places[:, axis] *= -1
    total = float((values**2).sum())
    shares = np.zeros(2)
    if total > 0:
        shares[:kept] = values[:kept] ** 2 / total
    return places, shares


def inliers(rows: NDArray[np.float64], reach: float = 5.0) -> NDArray[np.bool_]:
    """Tell the points that one map can show from those far off.

    Args:
        rows: Points, (n, d).
        reach: Largest distance from the median point that is shown, in median distances.

    Returns:
        Whether each point is near enough, (n,).
    """
    distance = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
    near: NDArray[np.bool_] = distance <= reach * np.median(distance) + 1e-12
    return near


@styled
def prompt_map(run: Evidence) -> Picture | None:
    """Draw every trained client's prompt; ``None`` for fewer than three of them."""
    if len(run.prompts) < 3:
        return None
    rows = np.stack(list(run.prompts.values()))
    near = inliers(rows)
    far = [client for client, shown in zip(run.prompts, near, strict=True) if not shown]
    clients = [client for client in run.prompts if client not in far]
    everything = rows[near]
    if run.global_prompt is not None:
        everything = np.vstack([everything, run.global_prompt])
    star = run.global_prompt is not None and bool(inliers(everything)[-1])
    places, shares = principal_components(everything if star else rows[near])
    figure, (axes,) = new_figure(4.4)
    _points(axes, run, clients, places)
    if star:
        at = places[-1]
        shown = axes.scatter(
            [at[0]], [at[1]], s=170, marker="*", color=INK, linewidths=0, label="global prompt"
        )
        tell(shown, "global prompt")
    axes.set_xlabel(f"first principal component, {100 * shares[0]:.0f}% of the variance")
    axes.set_ylabel(f"second, {100 * shares[1]:.0f}%")
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        labelcolor=INK,
        title="domain" if run.task["domains"] else "commonest class",
        alignment="left",
        ncols=1 + len(run.group_names()) // 22,
    )
    what = "domain" if run.task["domains"] else "the class it has most images of"
    missing = [f"client {client}" for client in far]
    missing += ["the global prompt"] if run.global_prompt is not None and not star else []
    off = f" Too far away to be shown: {', '.join(missing)}." if missing else ""
    groups = run.groups()
    values = [
        (str(client), groups[client], f"{places[i, 0]:.3g}", f"{places[i, 1]:.3g}")
        for i, client in enumerate(clients)
    ]
    return picture(
        figure,
        "Map of the clients' prompts",
        f"Each point is one client's prompt after its last round, coloured by {what}; near points "
        f"are clients that the server may serve to each other.{off}",
        Table(
            ("client", "group", "first component", "second"),
            values,
            keys=[f"c{client}" for client in clients],
        ),
    )


def _points(
    axes: matplotlib.axes.Axes,
    run: Evidence,
    clients: Sequence[ClientId],
    places: NDArray[np.float64],
) -> None:
    groups = run.groups()
    names = [name for name in run.group_names() if name in {groups[c] for c in clients}]
    few = len(clients) <= 40
    for i, name in enumerate(names):
        index = [row for row, client in enumerate(clients) if groups[client] == name]
        points = axes.scatter(
            places[index, 0],
            places[index, 1],
            s=62 if few else 30,
            color=PALETTE[i % len(PALETTE)],
            marker=MARKERS[(i + i // len(PALETTE)) % len(MARKERS)],
            label=name,
            linewidths=0,
            alpha=0.9,
        )
        of_them = [clients[row] for row in index]
        tell(points, [f"client {c}, {name}" for c in of_them], [f"c{c}" for c in of_them])
    for row, client in enumerate(clients if few else ()):
        axes.annotate(
            str(client),
            (float(places[row, 0]), float(places[row, 1])),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=SMALL,
            color=MUTED,
        )
