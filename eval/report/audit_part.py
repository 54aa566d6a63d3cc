"""The page of an audit: flagged mechanisms, by which check, and the bounds."""

import math
from collections.abc import Sequence

import numpy as np
import yaml

from eval.audit_record import CHECKS, THREAT_MODELS, failures
from eval.auditing import Trial
from eval.report.page import Part, Picture, Section, Table, render
from eval.report.style import INK, MARKERS, PALETTE, grid, new_figure, picture, styled
from eval.report.svg import tell
from privacy.auditing.audit_table import Verdict


def audit_page(trial: Trial, verdicts: Sequence[Verdict], ideal: tuple[float, float] | None) -> str:
    """Make one self-contained page of an audit.

    Args:
        trial: What was audited.
        verdicts: What was found.
        ideal: What the two bounds would be for ideal gradient canaries.

    Returns:
        HTML that loads nothing from anywhere.
    """
    claim, audit = trial.claim, trial.audit
    wrong = failures(verdicts)
    data = trial.data if trial.stand_in is None else f"{trial.data}, because {trial.stand_in}"
    outcome = "No sound mechanism was accused, and every broken one was found out."
    section = Section(
        "Verdicts",
        [outcome if not wrong else f"The audit FAILED for: {', '.join(wrong)}."],
        [_bounds_picture(verdicts)],
        [
            Table(*summary_rows(verdicts), note=_NOTE),
            Table(*_views_table(verdicts), folded="All bounds, by canary, auditor and method"),
        ],
    )
    who = Section(
        "Who audits, and how",
        [f"An auditor of {name} {text}." for name, text in THREAT_MODELS.items()],
        tables=[Table(("check", "finds that"), list(CHECKS.items()))],
    )
    part = Part(
        title=f"Audit of {trial.config.name('method')}, {trial.config.name('privacy')}",
        subtitle=f"{audit.rounds} of {trial.planned.rounds} planned rounds, "
        f"{len(audit.members)} clients, data: {data}.",
        tiles=_tiles(trial, verdicts, ideal),
        sections=[section, who],
        configuration=yaml.safe_dump(dict(trial.config.sections), sort_keys=True),
    )
    return render(f"Audit of epsilon {claim.epsilon:g}", [part])


_NOTE = (
    "Bounds are the larger of both methods', each with 95 % confidence by itself; the verdict pays "
    "for all tests. Pull: how far one example moves a step, where 1 is allowed. Noise: measured "
    "strength over the claimed one."
)


def judgement(verdict: Verdict) -> str:
    """The verdict in words."""
    if math.isinf(verdict.claimed):
        return "claims nothing"
    return f"broken: {', '.join(verdict.seen_in)}" if verdict.flagged else "not refuted"


def summary_rows(verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of verdicts, one row a mechanism; for the terminal and the page."""
    headings = (
        "mechanism",
        "claimed epsilon",
        "image canaries, uploads",
        "gradient canaries, uploads",
        "gradient canaries, steps",
        "canary AUC",
        "member AUC",
        "pull",
        "noise",
        "verdict",
    )
    rows = []
    for verdict in verdicts:
        bounds = [f"{max(view.steinke.epsilon, view.f_dp.epsilon):.2f}" for view in verdict.views]
        noise = verdict.noise
        rows.append(
            (
                verdict.name,
                "none" if math.isinf(verdict.claimed) else f"{verdict.claimed:.3g}",
                *bounds,
                *(["-"] * (3 - len(bounds))),
                f"{verdict.views[-1].separation.auc:.3f}",
                f"{verdict.examples.auc:.3f}",
                "-" if verdict.pull is None else f"{verdict.pull.move:.2f}",
                "-" if noise is None else "; ".join((f"{noise.strength:.2f}", *noise.flaws)),
                judgement(verdict),
            )
        )
    return headings, rows


def _views_table(verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    headings = (
        "mechanism",
        "canaries",
        "seen in",
        "method",
        "bound",
        "right guesses",
        "p of claim",
    )
    rows: list[tuple[str, ...]] = [
        (
            verdict.name,
            view.name,
            view.sees,
            bound.method,
            f"{bound.epsilon:.2f}",
            "-" if bound.guesses is None else f"{bound.guesses.correct}/{bound.guesses.made}",
            f"{view.p_value:.1e}",
        )
        for verdict in verdicts
        for view in verdict.views
        for bound in (view.steinke, view.f_dp)
    ]
    return headings, rows


def _tiles(
    trial: Trial, verdicts: Sequence[Verdict], ideal: tuple[float, float] | None
) -> list[tuple[str, str, str]]:
    broken = [verdict for verdict in verdicts if not verdict.sound]
    found = sum(verdict.flagged for verdict in broken)
    sound = [verdict for verdict in verdicts if verdict.sound and not math.isinf(verdict.claimed)]
    best = max(
        (max(v.steinke.epsilon, v.f_dp.epsilon) for one in sound for v in one.views), default=0.0
    )
    tiles = [
        ("Claimed epsilon", f"{trial.claim.epsilon:g}", f"delta {trial.claim.delta:g}"),
        ("Largest sound bound", f"{best:.2f}", "of the mechanisms that are meant to be private"),
        ("Broken and found", f"{found} of {len(broken)}", "mechanisms broken on purpose"),
    ]
    if ideal is not None:
        why = "what both bounds would be for canaries that only the claimed noise hides"
        tiles.append(("Ideal canaries", f"{ideal[0]:.2f} / {ideal[1]:.2f}", why))
    return tiles


@styled
def _bounds_picture(verdicts: Sequence[Verdict]) -> Picture:
    """Bounds and claims, a row for each mechanism."""
    figure, (axes,) = new_figure(0.9 + 0.27 * len(verdicts))
    heights = np.arange(len(verdicts))[::-1]
    bounds: dict[str, dict[str, float]] = {}
    kinds = {(view.name, view.sees): None for verdict in verdicts for view in verdict.views}
    for index, (name, sees) in enumerate(kinds):
        points = [
            (
                max(view.steinke.epsilon, view.f_dp.epsilon),
                height + 0.18 * ((len(kinds) - 1) / 2 - index),
                verdict.name,
            )
            for verdict, height in zip(verdicts, heights, strict=True)
            for view in verdict.views
            if (view.name, view.sees) == (name, sees)
        ]
        x, y, of = zip(*points, strict=True)
        drawn = axes.scatter(
            x, y, s=30, color=PALETTE[index], marker=MARKERS[index], label=f"{name}, {sees}"
        )
        tips = [f"{m}, {name}, {sees}: {e:.2f} refuted" for m, e in zip(of, x, strict=True)]
        tell(drawn, tips)
        bounds[f"{name}, {sees}"] = dict(zip(of, x, strict=True))
    for verdict, height in zip(verdicts, heights, strict=True):
        if not math.isinf(verdict.claimed):
            ends = [height - 0.4, height + 0.4]
            (claim,) = axes.plot([verdict.claimed] * 2, ends, color=INK, linewidth=1.2)
            tell(claim, f"{verdict.name}: claims {verdict.claimed:.3g}")
    axes.set_yticks(heights, [verdict.name for verdict in verdicts])
    axes.set(xlabel="epsilon refuted below")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(kinds), handletextpad=0.1)
    grid(axes, "x")
    rows = [
        (
            verdict.name,
            *(f"{found[verdict.name]:.2f}" if verdict.name in found else "-"
              for found in bounds.values()),
            "none" if math.isinf(verdict.claimed) else f"{verdict.claimed:.3g}",
        )
        for verdict in verdicts
    ]  # fmt: skip
    return picture(
        figure,
        "Bounds on epsilon by mechanism",
        "Lower bounds on epsilon by canary and auditor; a bar is the claim. A sound mechanism's "
        "points stay left of its bar; a broken one may be found by other checks than these.",
        Table(("mechanism", *bounds, "claimed"), rows),
    )
