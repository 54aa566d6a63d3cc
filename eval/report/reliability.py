"""Plots of calibration: confidence against accuracy."""

import matplotlib
import numpy as np

from eval.calibration import reliability_of
from eval.predictions import Answers
from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import (
    INK,
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
def reliability_diagrams(run: Evidence) -> Picture | None:
    """Draw the reliability of the personal models and of the global one, over all test images.

    ``None`` where the answers are not here but at a federation's sites.
    """
    if not run.predictions:
        return None
    labels = [one.labels for one in run.predictions]
    shared = [one.shared for one in run.predictions if one.shared is not None]
    models: list[tuple[str, list[Answers], str]] = [
        ("Personal models", [one.personal for one in run.predictions], PALETTE[0])
    ]
    if len(shared) == len(labels):
        models.append(("Global model", shared, PALETTE[1]))
    figure, panels = new_figure(3.4, len(models) + 1)
    rows: list[tuple[str, ...]] = []
    for axes, (name, answers, colour) in zip(panels, models, strict=False):
        diagram = reliability_of(answers, labels)
        width = diagram.edges[1] - diagram.edges[0]
        middle = (diagram.edges[:-1] + diagram.edges[1:]) / 2
        known = diagram.counts > 0
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        bars = axes.bar(
            middle[known], diagram.accuracy[known], width * 0.86, color=colour, alpha=0.85, zorder=2
        )
        for bar, bin_ in zip(bars, np.flatnonzero(known), strict=True):
            said = (
                f"{100 * diagram.edges[bin_]:.0f} to {100 * diagram.edges[bin_ + 1]:.0f}%",
                str(diagram.counts[bin_]),
                f"{100 * diagram.confidence[bin_]:.1f}%",
                f"{100 * diagram.accuracy[bin_]:.1f}%",
            )
            tell(bar, f"confidence {said[0]}: {said[1]} images, {said[3]} right")
            rows.append((name, *said))
        axes.bar(  # number of images, along the bottom
            middle,
            -0.16 * diagram.counts / diagram.counts.max(),
            width * 0.86,
            color=MUTED,
            alpha=0.45,
        )
        axes.axhline(0, color=RULE, linewidth=0.8)
        axes.set_title(f"{name}, ECE {100 * diagram.ece:.1f}%", color=INK)
        axes.set(xlim=(0, 1), ylim=(-0.2, 1.02), xlabel="confidence")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PERCENT)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_box_aspect(1)
        grid(axes)
    panels[0].set_ylabel("share of right answers")
    _by_client(panels[-1], run)
    return picture(
        figure,
        "Calibration: confidence against accuracy",
        "Bars on the dashed line mean that answers given with, say, 80% confidence are right 80% "
        "of the time (below it: overconfident); grey bars count images, and the right panel shows "
        "how the error is spread over clients.",
        Table(("models", "confidence", "images", "mean confidence", "right"), rows),
    )


def _by_client(axes: matplotlib.axes.Axes, run: Evidence) -> None:
    values = np.array([one.ece for one in run.scores])
    bins = min(20, max(6, len(values) // 3))
    counts, edges, _ = axes.hist(values, bins=bins, color=PALETTE[0], alpha=0.85, rwidth=0.88)
    for count, low, high, bar in zip(counts, edges, edges[1:], axes.patches, strict=False):
        tell(bar, f"ECE {100 * low:.1f} to {100 * high:.1f}%: {count:.0f} clients")
    axes.axvline(float(values.mean()), color=INK, linewidth=1.2)
    axes.set_title(f"By client, mean {100 * values.mean():.1f}%", color=INK)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=5))
    axes.set(xlabel="calibration error (ECE)", ylabel="clients")
    axes.set_box_aspect(1)
    grid(axes)
