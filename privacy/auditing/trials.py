"""Audits of correct mechanisms, and of broken ones that must be detected."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, TypeVar

from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining, Privatizer
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.errors import PrivacyError
from privacy.auditing.audit import Audit, Evidence
from privacy.auditing.audit_table import Verdict
from privacy.auditing.bounds import view
from privacy.auditing.broken import GateWithoutNoise, broken_randomness, broken_variants
from privacy.auditing.membership import separation
from privacy.auditing.noise_rows import NoiseFindings
from privacy.auditing.planted import PROMPT
from privacy.auditing.sensitivity import Pull, Tapped, pull_of_one
from privacy.auditing.trade_off import Claim, Gaussian, SampledSteps
from privacy.ledgers.ledger import Ledgers
from privacy.mechanisms.mechanism import Mechanism, SampledGaussian
from privacy.mechanisms.sgd import StepPrivacy
from privacy.mechanisms.upload import UploadPrivacy
from privacy.options import DPSGD, Release

P = TypeVar("P", StepPrivacy, UploadPrivacy)


def audit_all(
    audit: Audit, options: DPSGD | Release, planned: PlannedTraining
) -> Iterator[Verdict]:
    """Audit a method without privacy, with each mode that holds for it, and with broken ones.

    Args:
        audit: What is audited.
        options: The claim. With private steps, noise on uploads is audited beside them for the
            same epsilon; with noise on uploads, that alone.
        planned: The run's plan, which may have more rounds than are audited.

    Yields:
        Verdicts, as they are found.
    """
    yield _judge(audit, "no privacy", NoPrivacy(), options.delta, sound=True)
    release = Release(options.epsilon, options.delta) if isinstance(options, DPSGD) else options
    if isinstance(options, Release) or gap_in_analysis(audit.method, "release") is None:
        yield from _uploads(audit, release, planned)
    if isinstance(options, DPSGD):
        yield from _steps(audit, options, planned)


def _uploads(audit: Audit, options: Release, planned: PlannedTraining) -> Iterator[Verdict]:
    real = options.privatizer(audit.method, planned, None)

    def judge(name: str, privatizer: UploadPrivacy, *, sound: bool) -> Verdict:
        return _judge(audit, name, privatizer, options.delta, sound=sound, real=real)

    yield judge("release", real, sound=True)
    for flaw, source in broken_randomness(audit.search.seeds).items():
        yield judge(f"release, {flaw}", _afresh(real, randomness=source), sound=False)
    weak = _afresh(real, noise_multiplier=real.noise_multiplier / 10)
    yield judge("release, a tenth of the noise", weak, sound=False)


def _steps(audit: Audit, options: DPSGD, planned: PlannedTraining) -> Iterator[Verdict]:
    method = audit.method
    gated: set[str] = set()

    def judge(
        name: str,
        privatizer: StepPrivacy,
        real: StepPrivacy,
        *,
        sound: bool,
        beside: Mechanism | None = None,
    ) -> Verdict:
        tap = Tapped(privatizer.mechanism, {})
        tapped = _afresh(privatizer, mechanism=tap)
        verdict = _judge(audit, name, tapped, options.delta, sound=sound, real=real)
        gated.update(name for names in tap.steps for name in names if name != PROMPT)
        return replace(verdict, pull=_pull(tap, real, beside))

    known: tuple[Literal["joint", "decoupled"], ...] = ("joint", "decoupled")
    modes = [mode for mode in known if gap_in_analysis(method, mode) is None]
    if not modes:
        options.privatizer(method, planned, None)  # raises, and says why
    reals = {mode: replace(options, mode=mode).privatizer(method, planned, None) for mode in modes}
    for mode, real in reals.items():
        yield judge(mode, real, real, sound=True)
    # In joint mode a gate shares the clipping norm with the prompt, so that uploads show less:
    # broken prompts are tested in a mode in which all of the norm is the prompt's.
    mode = modes[-1]
    real = reals[mode]
    claim = _claimed(real)
    fewer = {client: size - 1 for client, size in audit.sizes.items()}
    beside = broken_variants(claim, fewer, real.sample_rate)
    for flaw, mechanism in broken_variants(claim, audit.sizes, real.sample_rate).items():
        broken = _afresh(real, mechanism=mechanism)
        yield judge(f"{mode}, {flaw}", broken, real, sound=False, beside=beside[flaw])
    for flaw, source in broken_randomness(audit.search.seeds).items():
        yield judge(f"{mode}, {flaw}", _afresh(real, randomness=source), real, sound=False)
    if gated and "joint" in reals:
        whole = reals["joint"]
        broken = _afresh(whole, mechanism=GateWithoutNoise(_claimed(whole)))
        yield judge("joint, gate without noise", broken, whole, sound=False)


def _judge(
    audit: Audit,
    name: str,
    privatizer: Privatizer,
    delta: float,
    *,
    sound: bool,
    real: StepPrivacy | UploadPrivacy | None = None,
) -> Verdict:
    """Run one mechanism and test its output against the claim of the correct one."""
    evidence = audit.run(privatizer)
    believed = privatizer if real is None else real
    claim, claimed = _claim(believed, audit.rounds)
    seen = ("uploads", "steps") if isinstance(believed, StepPrivacy) else ("uploads",)
    return Verdict(
        name=name,
        sound=sound,
        claimed=claimed,
        views=tuple(
            view(one.name, one.sees, one.scores, one.included, claimed, delta, claim)
            for one in evidence.views
            if one.sees in seen
        ),
        examples=separation(evidence.member_scores, evidence.member),
        pull=None,
        noise=_noise(evidence, believed),
    )


def _claim(privatizer: Privatizer, rounds: int) -> tuple[Claim, float]:
    """Return a privatizer's claim for some rounds: kind and amount of noise, and epsilon."""
    if isinstance(privatizer, StepPrivacy):
        budget = privatizer.ledgers.budget
        steps = budget.units * rounds
        noise = float(budget.mechanism["noise_multiplier"])
        return SampledSteps(noise, privatizer.sample_rate, steps), budget.spent(steps)
    if isinstance(privatizer, UploadPrivacy):
        mu = math.sqrt(rounds) / privatizer.noise_multiplier
        return Gaussian(mu), privatizer.ledgers.budget.spent(rounds)
    return Gaussian(1.0), math.inf


def _noise(evidence: Evidence, privatizer: Privatizer) -> NoiseFindings | None:
    if isinstance(privatizer, StepPrivacy):
        real = _claimed(privatizer)
        std = real.noise_multiplier * real.max_grad_norm / real.normaliser
        return evidence.steps.findings(std)
    if isinstance(privatizer, UploadPrivacy):
        return evidence.uploads.findings(
            2 * privatizer.noise_multiplier * privatizer.max_update_norm
        )
    return None


def _pull(tap: Tapped, real: StepPrivacy, beside: Mechanism | None) -> Pull:
    noise = float(real.ledgers.budget.mechanism["noise_multiplier"])
    found = [
        pull_of_one(tap.mechanism, noise, real.normaliser, step, beside=beside)
        for step in tap.steps.values()
    ]
    return Pull(max(pull.move for pull in found), max(pull.drift for pull in found))


def _afresh(privatizer: P, **changes: Any) -> P:  # fields of either kind
    """Copy a privatizer with some fields changed and a new ledger."""
    ledgers = Ledgers(privatizer.ledgers.budget, None)
    return replace(privatizer, ledgers=ledgers, **changes)


def _claimed(privatizer: StepPrivacy) -> SampledGaussian:
    mechanism: Mechanism = privatizer.mechanism
    if not isinstance(mechanism, SampledGaussian):
        raise PrivacyError(
            f"the audit knows how to break {SampledGaussian.__name__}, "
            f"got {type(mechanism).__name__}"
        )
    return mechanism
