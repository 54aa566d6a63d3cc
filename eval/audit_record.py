"""``audit.json``: an audit's claims, measurements and conclusions, machine-readable."""

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.auditing import Trial
from pfedmoap import __version__
from pfedmoap.storage.strict_json import has_schema
from privacy.auditing.audit_table import Verdict
from privacy.auditing.bounds import CONFIDENCE, LowerBound, View
from privacy.options import DPSGD

SCHEMA, SCHEMA_VERSION = "pfedmoap.audit", 1
THREAT_MODELS = {
    "uploads": "sees every download and upload; knows the code, all options and all ordinary "
    "examples",
    "steps": "sees every step's noisy gradient as well, and knows the prompt before it and which "
    "ordinary examples were drawn",
}
CHECKS = {
    "uploads": "canaries refute the claim from uploads",
    "steps": "canaries refute the claim from the steps' noisy gradients",
    "pull": "one example moves a step, or its noise, by more than the claim covers",
    "noise": "the noise is predictable, repeats, is weaker than claimed, or depends on the data",
}


def is_record(file: Path) -> bool:
    """Whether a file holds a record of an audit."""
    return has_schema(file, SCHEMA)


def record(
    trial: Trial, verdicts: Sequence[Verdict], ideal: tuple[float, float] | None
) -> dict[str, Any]:  # JSON of any shape
    """Make the JSON record of an audit.

    Args:
        trial: What was audited.
        verdicts: What was found.
        ideal: What the two bounds would be for ideal gradient canaries.

    Returns:
        JSON; numbers that are infinite are ``null``.
    """
    claim, options = trial.claim, trial.options
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "passed": not failures(verdicts),
        "failed_for": failures(verdicts),
        "claim": {
            "mechanism": trial.config.name("privacy"),
            "method": trial.config.name("method"),
            "epsilon": claim.epsilon,
            "delta": claim.delta,
            "unit": claim.unit if isinstance(claim, DPSGD) else "client",
        },
        "data": {"name": trial.data, "stand_in_because": trial.stand_in},
        "rounds": {"audited": trial.audit.rounds, "planned": trial.planned.rounds},
        "clients": len(trial.audit.members),
        "canaries_of_a_client": {
            "image": options.canaries,
            "gradient": options.gradient_canaries,
        },
        "confidence": CONFIDENCE,
        "threat_models": THREAT_MODELS,
        "checks": CHECKS,
        "ideal": None if ideal is None else dict(zip(("steinke", "f_dp"), ideal, strict=True)),
        "verdicts": [_verdict(verdict) for verdict in verdicts],
        "seeds": {"audit": options.seed, "noise": "operating system"},
        "versions": {
            "pfedmoap": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scipy", "dp-accounting")},
        },
        "configuration": dict(trial.config.sections),
        "options": asdict(options),
    }


def failures(verdicts: Sequence[Verdict]) -> list[str]:
    """List sound mechanisms that were flagged, and broken ones that were not."""
    return [verdict.name for verdict in verdicts if verdict.flagged == verdict.sound]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    pull, noise = verdict.pull, verdict.noise
    return {
        "name": verdict.name,
        "sound": verdict.sound,
        "claimed_epsilon": _finite(verdict.claimed),
        "flagged": verdict.flagged,
        "seen_in": list(verdict.seen_in),
        "views": [_view(view) for view in verdict.views],
        "ordinary_examples": asdict(verdict.examples),
        "pull": None
        if pull is None
        else {"move": _finite(pull.move), "infinite": math.isinf(pull.move), "drift": pull.drift},
        "noise": None if noise is None else {**asdict(noise), "flaws": list(noise.flaws)},
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "name": view.name,
        "sees": view.sees,
        "canaries": view.canaries,
        "bounds": [_bound(view.steinke), _bound(view.f_dp)],
        "auc": view.separation.auc,
        "tpr_at_1_fpr": view.separation.tpr_at_1_fpr,
        "p_value_of_claim": view.p_value,
    }


def _bound(bound: LowerBound) -> dict[str, Any]:
    guesses = bound.guesses
    return {
        "method": bound.method,
        "epsilon": bound.epsilon,
        "confidence": bound.confidence,
        "guesses": None if guesses is None else guesses.made,
        "correct": None if guesses is None else guesses.correct,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
