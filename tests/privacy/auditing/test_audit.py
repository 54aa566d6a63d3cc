"""The audit finds what is broken and lets pass what is not, on a tiny model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from privacy.auditing.audit import Audit, halves
from privacy.auditing.audit_table import DRIFT, TOLERANCE
from privacy.auditing.bounds import lower_bound
from privacy.auditing.broken import GateWithoutNoise, broken_variants
from privacy.auditing.canaries import craft_canaries, example_gradients, traces
from privacy.auditing.membership import separation
from privacy.auditing.seed_search import SeedSearch
from privacy.auditing.sensitivity import Step, Tapped, pull_of_one
from privacy.auditing.trials import audit_all
from privacy.ledgers.ledger import Ledgers
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.mechanisms.randomness import Randomness
from privacy.options import DPSGD, Release
from tests.helpers.models import random_data
from tests.helpers.training_steps import last_steps

REAL = SampledGaussian(noise_multiplier=2.0, max_grad_norm=0.1, normaliser=3.0)
SIZES = {ClientId(0): 5, ClientId(1): 3, ClientId(4): 6}
BROKEN = {
    name: mechanism
    for name, mechanism in broken_variants(REAL, SIZES, 1.0).items()
    if not name.startswith("divided")
} | {"gate without noise": GateWithoutNoise(REAL)}


@pytest.fixture
def step(setting, data):
    return Step(*last_steps(method_class("pfedmoap")(setting), data)[-1])


@pytest.fixture
def audit(setting):
    training = Training(epochs=1, batch_size=8, learning_rate=0.01)
    method = method_class("pfedmoap")(replace(setting, training=training), context_length=8)
    parts = {
        client: halves(data, 4, Randomness(0).stream())
        for client, data in random_data([8, 8, 8, 8], classes=3).items()
    }
    members, others = ({c: part[i] for c, part in parts.items()} for i in (0, 1))
    return Audit(
        method,
        members,
        others,
        rounds=2,
        canaries=16,
        gradient_canaries=20,
        max_grad_norm=1.0,
        search=SeedSearch(seeds=32),
    )


def pull(mechanism, step):
    return pull_of_one(mechanism, REAL.noise_multiplier, REAL.normaliser, step)


def test_the_real_step_pulls_exactly_as_hard_as_it_may(step):
    found = pull(REAL, step)
    assert 0.9 < found.move <= TOLERANCE
    assert found.drift < DRIFT


@pytest.mark.parametrize("flaw", BROKEN)
def test_every_broken_step_pulls_too_hard(flaw, step):
    found = pull(BROKEN[flaw], step)
    assert found.move > TOLERANCE
    assert math.isinf(found.move) == (flaw == "gate without noise")


def test_noise_that_shrinks_with_the_batch_drifts(step):
    broken = broken_variants(REAL, SIZES, 1.0)
    assert pull(broken["divided by the batch's size"], step).drift > 0.1
    fewer = broken_variants(REAL, {client: size - 1 for client, size in SIZES.items()}, 1.0)
    name = "divided by the data set's size"
    found = pull_of_one(
        broken[name], REAL.noise_multiplier, REAL.normaliser, step, beside=fewer[name]
    )
    assert found.drift == pytest.approx(3 / 2 - 1, rel=1e-3)  # of the client with 3 examples


def test_dividing_by_the_data_sets_size_scales_each_client(step):
    mechanism = broken_variants(REAL, SIZES, 0.5)["divided by the data set's size"]
    noise = [Randomness(i).stream() for i in range(3)]
    plain, _ = REAL.gradients(step.problem, step.params, step.batch, noise)
    noise = [Randomness(i).stream() for i in range(3)]
    found, _ = mechanism.gradients(step.problem, step.params, step.batch, noise)
    for row, stream in enumerate(step.batch.streams):
        factor = REAL.normaliser / (0.5 * SIZES[stream.client])
        assert torch.allclose(found["context"][row], factor * plain["context"][row])


def test_a_tap_changes_nothing(step):
    noise = [Randomness(i).stream() for i in range(3)]
    direct, _ = REAL.gradients(step.problem, step.params, step.batch, noise)
    tap = Tapped(REAL, {})
    noise = [Randomness(i).stream() for i in range(3)]
    tapped, _ = tap.gradients(step.problem, step.params, step.batch, noise)
    assert all(torch.equal(direct[name], tapped[name]) for name in direct)
    assert list(tap.steps) == [tuple(sorted(step.params))]


def test_canaries_fill_the_clipping_norm_and_differ(setting):
    encoder = setting.backbone.prompt_encoder(setting.class_names, 4)
    context = torch.randn(4, setting.backbone.text_width) * 0.02
    scale, dim = setting.backbone.logit_scale, setting.backbone.embed_dim
    made = craft_canaries(encoder, scale, context, dim, 20, Randomness(0).stream())
    gradients = example_gradients(encoder, scale, context, made)
    assert gradients.shape == (20, 4 * setting.backbone.text_width)
    assert torch.linalg.matrix_rank(gradients.double()) == 20
    strengths = traces(gradients[:7].sum(0), gradients, max_grad_norm=1e9)
    assert torch.allclose(strengths, (torch.arange(20) < 7).float(), atol=1e-3)


def test_without_privacy_canaries_are_found_and_with_it_they_are_not(audit):
    plain = audit.run(NoPrivacy())
    assert [(view.name, view.sees) for view in plain.views] == [
        ("image canaries", "uploads"),
        ("gradient canaries", "uploads"),
        ("gradient canaries", "steps"),
    ]
    assert [len(view.scores) for view in plain.views] == [64, 80, 80]
    for view in plain.views:
        assert separation(view.scores, view.included).auc > 0.95
        assert lower_bound(view.scores, view.included, 1e-5).epsilon > 1.0
    planned = PlannedTraining(2, 1, 8)
    options = DPSGD(epsilon=1.0, sample_rate=1.0)
    private = audit.run(options.privatizer(audit.method, planned, None))
    for view, before in zip(private.views, plain.views, strict=True):
        assert np.array_equal(view.included, before.included)
        assert lower_bound(view.scores, view.included, 1e-5).epsilon <= 1.0
        assert separation(view.scores, view.included).auc < 0.8


def test_scores_of_steps_are_those_of_ideal_canaries(audit):
    """In units of the noise, included and other canaries are mu apart, and 1 is their spread."""
    rounds, planned = 2, PlannedTraining(2, 1, 8)
    options = DPSGD(epsilon=8.0, sample_rate=1.0, mode="joint")
    privatizer = options.privatizer(audit.method, planned, None)
    noise = privatizer.ledgers.budget.mechanism["noise_multiplier"]
    found = [audit.run(replace_ledger(privatizer)).views[2] for _ in range(3)]
    unit = noise * rounds**0.5 / 8  # the clipping norm is 1, the normaliser 8
    scores = np.concatenate([view.scores for view in found]) / unit
    included = np.concatenate([view.included for view in found])
    apart = scores[included].mean() - scores[~included].mean()
    # What is known is taken out of the vectors, and with it a part of each canary.
    assert apart == pytest.approx(rounds**0.5 / noise, rel=0.4)
    assert scores[~included].std() == pytest.approx(1.0, rel=0.35)


def replace_ledger(privatizer):
    return replace(privatizer, ledgers=Ledgers(privatizer.ledgers.budget, None), _steps_left={})


def smaller(audit):
    two = dict(list(audit.members.items())[:2])
    return replace(audit, members=two, canaries=4, gradient_canaries=40)


def test_the_table_flags_the_broken_and_only_them(audit):
    options, small = DPSGD(epsilon=0.5, sample_rate=1.0), smaller(audit)
    assert min(small.sizes.values()) > 22  # above the normaliser: divided by it, noise is weak

    def wrong(verdicts):
        return [
            (verdict.name, verdict.seen_in)
            for verdict in verdicts
            if verdict.flagged == verdict.sound and verdict.claimed < math.inf
        ]

    verdicts = list(audit_all(small, options, PlannedTraining(2, 1, 16)))
    if wrong(verdicts):  # a verdict has 95 % confidence, and noise is the system's: not twice
        verdicts = list(audit_all(small, options, PlannedTraining(2, 1, 16)))
    assert [verdict.name for verdict in verdicts if verdict.sound] == [
        "no privacy",
        "release",
        "joint",
        "decoupled",
    ]
    assert len(verdicts) == 16
    assert not wrong(verdicts)
    found = {verdict.name: verdict.seen_in for verdict in verdicts}
    for flaw in ("predictable seed", "repeated noise", "divided by the data set's size"):
        assert "noise" in found[f"decoupled, {flaw}"]
    for size in ("batch", "data set"):
        assert "pull" in found[f"decoupled, divided by the {size}'s size"]
    assert {"uploads", "steps", "pull", "noise"} <= set(found["decoupled, noise on the mean"])
    assert found["joint, gate without noise"] == ("pull",)


def test_a_claim_about_uploads_is_audited_alone(audit):
    verdicts = list(audit_all(smaller(audit), Release(epsilon=4.0), PlannedTraining(2, 1, 8)))
    assert [(v.name, v.flagged) for v in verdicts] == [
        ("no privacy", False),
        ("release", False),
        ("release, predictable seed", True),
        ("release, repeated noise", True),
        ("release, a tenth of the noise", True),
    ]
    assert verdicts[1].claimed == pytest.approx(4.0, rel=1e-3)


def test_a_method_without_prompts_on_the_wire_cannot_be_audited(audit, setting):
    silent = replace(audit, method=method_class("fedper")(setting))
    with pytest.raises(PrivacyError, match="exchange"):
        silent.run(NoPrivacy())
