"""Plots of pFedMoAP's mixture: which prompts clients are served, and the gates' attention."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eval.report.distribution import cell_edges, group_strip, in_words
from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
    MUTED,
    PALETTE,
    SMALL,
    UNDER_TEXT,
    WIDTH,
    Picture,
    diverging,
    fading,
    new_figure,
    picture,
    styled,
    thin,
)
from eval.report.svg import tell, tell_cells

Matrix = NDArray[np.float64]


def served_matrix(run: Evidence, rounds: Sequence[int] | None = None) -> Matrix:
    """Count how often each client was served each other's prompt.

    Args:
        run: The run.
        rounds: Rounds that count; ``None`` takes all.

    Returns:
        Counts by receiver and giver, (N, N), without those that have left the federation.
    """
    rows = {int(client): row for row, client in enumerate(run.ids)}
    matrix = np.zeros((len(rows), len(rows)))
    for record in run.records:
        if rounds is None or record["round"] in rounds:
            for receiver, givers in record["served"].items():
                for giver in givers:
                    if int(receiver) in rows and giver in rows:
                        matrix[rows[int(receiver)], rows[giver]] += 1
    return matrix


def related_share(run: Evidence) -> tuple[float, float] | None:
    """Compute how often an expert came from the same group, and how often by chance.

    Returns:
        The share of served experts, and the share that a random choice would have had for the same
        receivers; ``None`` where nothing was served.
    """
    matrix = served_matrix(run)
    groups = np.array(run.groups())
    same = (groups[:, None] == groups[None]) & ~np.eye(len(groups), dtype=bool)
    if not matrix.sum():
        return None
    chance = same.sum(1) / max(1, len(groups) - 1)
    weight = matrix.sum(1)
    return float((matrix * same).sum() / matrix.sum()), float(np.average(chance, weights=weight))


@styled
def served_experts(run: Evidence) -> Picture | None:
    """Draw which clients' prompts each client was served, over all rounds and in three of them."""
    serving = [record["round"] for record in run.records if any(record["served"].values())]
    if not serving:
        return None
    order = run.ordered()
    clients = [str(run.ids[row]) for row in order]
    keys = [f"c{client}" for client in clients]
    cuts = np.array_split(serving, min(4, len(serving))) if len(serving) > 1 else []
    parts = [part.tolist() for part in cuts]
    figure = Figure(figsize=(WIDTH, 4.7))
    grid = figure.add_gridspec(2, 4)
    panels = [figure.add_subplot(grid[:, :2])]
    panels += [figure.add_subplot(grid[i // 2, 2 + i % 2]) for i in range(len(parts))]
    whole = _span(serving) if len(serving) == 1 else f"All {len(serving)} rounds with experts"
    views = [(served_matrix(run), whole)]
    views += [(served_matrix(run, part), _span(part)) for part in parts]
    for index, (axes, (matrix, title)) in enumerate(zip(panels, views, strict=True)):
        shown = matrix[np.ix_(order, order)]
        image = axes.imshow(
            shown, cmap=fading(PALETTE[0]), norm=PowerNorm(0.5, 0, max(1.0, float(shown.max())))
        )
        image.set_interpolation("none")
        said = "client {row} was served the prompt of client {column} {cell} times"
        tell_cells(image, said, clients, clients, shown.astype(int).tolist(), keys)
        axes.set_title(title, color=INK, pad=34 if index == 0 and run.task["domains"] else 8)
        ticks = thin(len(order), 25 if index == 0 else 4)
        names = [clients[i] for i in ticks]
        axes.set_xticks(ticks, names, rotation=0 if len(order) <= 25 or index else 90)
        axes.set_yticks(ticks, names)
        axes.tick_params(length=0)
        _group_lines(run, axes, order)
    panels[0].set(xlabel="whose prompt", ylabel="served to client")
    group_strip(run, panels[0], order, room=32)
    counts = served_matrix(run).astype(np.int64)
    givers = [f"client {giver}:" for giver in run.ids]
    rows = [
        (client, str(counts[row].sum()), in_words(givers, counts[row]))
        for client, row in zip(clients, order, strict=True)
    ]
    return picture(
        figure,
        "Whose prompts each client was served",
        "A filled cell in row i and column j means that client i was served the prompt of client j "
        "(the stronger its colour, the more often; small panels are parts of the rounds); related "
        "clients are neighbours, so blocks on the diagonal mean that experts come from one's own "
        "kind.",
        Table(
            ("client", "experts served", "whose, and how often"),
            rows,
            keys=keys,
        ),
    )


def own_weights(run: Evidence) -> Matrix:
    """Mean attention to the own prompt, by client and true class, (N, C); NaN where unknown."""
    matrix = np.full(run.counts().shape, np.nan)
    for row, one in enumerate(run.predictions):
        if one.gate is not None:
            for label in np.unique(one.labels):
                matrix[row, label] = one.gate.weights[one.labels == label, 0].mean()
    return matrix


@styled
def gate_attention(run: Evidence) -> Picture | None:
    """Draw the gate's attention to the own prompt against the experts, by client and class."""
    sizes = [one.gate.weights.shape[1] for one in run.predictions if one.gate is not None]
    if not sizes or max(sizes) < 2:
        return None
    order = run.ordered()
    even = 1 / max(sizes)
    weights = own_weights(run)[order].T  # (C, N)
    classes, clients = weights.shape
    figure, (axes,) = new_figure(float(np.clip(0.19 * classes, 1.5, 5.0)) + 0.9)
    annotated = clients <= 20 and classes <= 14
    reach = max(0.02, float(np.nanmax(np.abs(weights - even))))
    image = axes.imshow(
        np.ma.masked_invalid(weights),
        cmap=diverging(UNDER_TEXT if annotated else 1.0),
        vmin=even - reach,
        vmax=even + reach,
        aspect="auto",
        interpolation="none",
    )
    percents = [["-" if np.isnan(w) else f"{100 * w:.0f}%" for w in row] for row in weights]
    unknown = np.where(np.isnan(weights), 0.25, 0.0)
    top = axes.imshow(
        unknown, cmap=fading(MUTED), vmin=0, vmax=2, aspect="auto", interpolation="none"
    )
    said = "client {column}, {row}: {cell} of the attention on its own prompt"
    names = [str(run.ids[row]) for row in order]
    tell_cells(top, said, run.class_names, names, percents, [f"c{name}" for name in names])
    cell_edges(axes, classes, clients)
    for (row, column), value in np.ndenumerate(weights if annotated else np.zeros((0, 0))):
        if not np.isnan(value):
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=INK, fontsize=SMALL)
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=14)
    bar.outline.set_visible(False)
    bar.set_ticks([even - reach, even, even + reach])
    bar.set_ticklabels(
        [f"{100 * max(0, even - reach):.0f}%", "even", f"{100 * (even + reach):.0f}%"]
    )
    bar.ax.tick_params(length=0)
    ticks = list(range(clients)) if clients <= 40 else thin(clients, 25)
    axes.set_xticks(ticks, [names[i] for i in ticks])
    rows = list(range(classes)) if classes <= 34 else thin(classes, 20)
    axes.set_yticks(rows, [run.class_names[i] for i in rows])
    axes.set_xlabel("client")
    group_strip(run, axes, order)
    rows_of = [
        (
            client,
            ", ".join(
                f"{name} {percents[c][column]}"
                for c, name in enumerate(run.class_names)
                if percents[c][column] != "-"
            ),
        )
        for column, client in enumerate(names)
    ]
    return picture(
        figure,
        "The gate's attention to the own prompt, by client and class",
        "Attention to the client's own prompt at the true class, in per cent: blue means more "
        f"than the even share of {100 * even:.0f}% that {max(sizes)} prompts would have, orange "
        "that its attention is on the experts, and grey that it has no such image.",
        Table(("client", "attention to its own prompt"), rows_of),
    )


@styled
def attention_by_rank(run: Evidence) -> Picture | None:
    """Draw how each client's attention is divided between its own prompt and its experts."""
    gates = [(row, one.gate) for row, one in enumerate(run.predictions) if one.gate is not None]
    gates = [(row, gate) for row, gate in gates if gate.weights.shape[1] > 1]
    if not gates:
        return None
    rows = {row: gate.weights.mean(0) for row, gate in gates}
    shown = sorted(rows, key=lambda row: -rows[row][0])
    most = max(len(mean) for mean in rows.values())
    figure, (axes,) = new_figure(2.4)
    floor = np.zeros(len(shown))
    for expert in range(most):
        height = np.array([rows[r][expert] if expert < len(rows[r]) else 0.0 for r in shown])
        shade = 1.0 if expert == 0 else 0.9 - 0.65 * (expert - 1) / max(1, most - 2)
        look: dict[str, Any] = {  # matplotlib options are of any type
            "color": PALETTE[0] if expert == 0 else PALETTE[4],
            "alpha": shade,
            "linewidth": 0,
        }
        if len(shown) <= 60:
            bars = axes.bar(np.arange(len(shown)), height, 0.86, floor, **look)
            for bar, row, share in zip(bars, shown, height, strict=True):
                whose = "its own prompt" if expert == 0 else f"expert {expert}"
                client = run.predictions[row].client
                tell(bar, f"client {client}, {whose}: {100 * share:.0f}%", f"c{client}")
        else:  # one area without thin lines between columns
            edges = np.arange(len(shown) + 1) - 0.5
            low, high = (np.append(v, v[-1]) for v in (floor, floor + height))
            axes.fill_between(edges, low, high, step="post", **look)
        floor += height
    names = [str(run.predictions[row].client) for row in shown]
    if len(shown) > 60:  # the areas have no columns that the pointer could be told about
        top = axes.imshow(np.zeros((1, len(shown))), extent=(-0.5, len(shown) - 0.5, 0, 1), alpha=0)
        own = [f"{100 * rows[row][0]:.1f}%" for row in shown]
        said = "client {column}: {cell} of the attention on its own prompt"
        tell_cells(top, said, [""], names, [own], [f"c{name}" for name in names])
        axes.set_aspect("auto")
    ticks = list(range(len(shown))) if len(shown) <= 40 else thin(len(shown), 25)
    axes.set_xticks(ticks, [names[i] for i in ticks])
    axes.tick_params(length=0)
    axes.set(ylim=(0, 1), xlim=(-0.6, len(shown) - 0.4), xlabel="client", ylabel="attention")
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    values = [
        (
            str(run.predictions[row].client),
            f"{100 * rows[row][0]:.1f}%",
            ", ".join(f"{100 * share:.1f}%" for share in rows[row][1:]),
        )
        for row in shown
    ]
    return picture(
        figure,
        "How each client's attention is divided",
        "Each column is one client with experts, ordered by the attention to its own prompt (blue, "
        "at the bottom); above it its experts, the nearest first and strongest.",
        Table(
            ("client", "own prompt", "experts, the nearest first"),
            values,
            keys=[f"c{run.predictions[row].client}" for row in shown],
        ),
    )


def _span(rounds: Sequence[int]) -> str:
    return f"Round {rounds[0]}" if len(rounds) == 1 else f"Rounds {rounds[0]} to {rounds[-1]}"


def _group_lines(run: Evidence, axes: object, order: list[int]) -> None:
    groups = [run.groups()[i] for i in order]
    for i in range(1, len(groups)):
        if groups[i] != groups[i - 1]:
            for line in (axes.axhline, axes.axvline):  # type: ignore[attr-defined]
                line(i - 0.5, color="#dededf", linewidth=0.6, zorder=0)
