"""The audit finds what is broken and lets pass what is not, on a tiny model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pfedmoap.errors import PrivacyError
from pfedmoap.gradients import NoPrivacy, PlannedTraining
from pfedmoap.method import method_class
from pfedmoap.training import Training
from privacy.audit import Audit, halves
from privacy.broken import GateWithoutNoise, broken_variants
from privacy.canaries import craft_canaries, example_gradients, traces
from privacy.mechanism import SampledGaussian
from privacy.membership import separation
from privacy.one_run import lower_bound
from privacy.options import DPSGD
from privacy.randomness import Randomness
from privacy.sensitivity import Step, Tapped, relative_sensitivity
from privacy.verdicts import TOLERANCE, audit_all
from tests.conftest import random_data
from tests.privacy.conftest import last_steps

REAL = SampledGaussian(noise_multiplier=2.0, max_grad_norm=0.1, normaliser=3.0)
BROKEN = {**broken_variants(REAL), "gate without noise": GateWithoutNoise(REAL)}


@pytest.fixture
def step(setting, data):
    return Step(*last_steps(method_class("pfedmoap")(setting), data)[-1])


@pytest.fixture
def audit(setting):
    training = Training(epochs=1, batch_size=8, learning_rate=0.01)
    method = method_class("pfedmoap")(replace(setting, training=training), context_length=4)
    parts = {
        client: halves(data, 4, Randomness(0).stream())
        for client, data in random_data([8, 8, 8, 8], classes=3).items()
    }
    members, others = ({c: part[i] for c, part in parts.items()} for i in (0, 1))
    return Audit(method, members, others, rounds=2, canaries=30, max_grad_norm=1.0)


def test_the_real_step_pulls_exactly_as_hard_as_it_may(step):
    pull = relative_sensitivity(REAL, REAL.noise_multiplier, REAL.normaliser, step)
    assert 0.9 < pull <= TOLERANCE


@pytest.mark.parametrize("flaw", BROKEN)
def test_every_broken_step_pulls_too_hard(flaw, step):
    pull = relative_sensitivity(BROKEN[flaw], REAL.noise_multiplier, REAL.normaliser, step)
    assert pull > TOLERANCE
    assert math.isinf(pull) == (flaw == "gate without noise")


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
    assert plain.scores.shape == plain.included.shape == (120,)
    assert separation(plain.scores, plain.included).auc > 0.95
    assert lower_bound(plain.scores, plain.included, 1e-5).epsilon > 1.0
    planned = PlannedTraining(2, 1, 8)
    options = DPSGD(epsilon=1.0, sample_rate=1.0)
    private = audit.run(options.privatizer(audit.method, planned, None))
    assert np.array_equal(private.included, plain.included)
    assert lower_bound(private.scores, private.included, 1e-5).epsilon <= 1.0
    assert separation(private.scores, private.included).auc < 0.75


def test_the_table_flags_the_broken_and_only_them(audit):
    two = dict(list(audit.members.items())[:2])
    small = replace(audit, members=two, canaries=8)
    verdicts = list(audit_all(small, DPSGD(sample_rate=1.0), PlannedTraining(2, 1, 8)))
    assert [verdict.name for verdict in verdicts if verdict.sound] == [
        *("no privacy", "release", "joint", "decoupled")
    ]
    assert len(verdicts) == 8
    assert all(verdict.flagged != verdict.sound for verdict in verdicts)


def test_a_method_without_prompts_on_the_wire_cannot_be_audited(audit, setting):
    silent = replace(audit, method=method_class("fedper")(setting))
    with pytest.raises((PrivacyError, KeyError)):
        silent.run(NoPrivacy())
