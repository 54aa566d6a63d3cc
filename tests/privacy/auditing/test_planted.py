"""Gradient canaries: their gradient is theirs alone, and mechanisms treat them like any example."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.batches import Batch
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from privacy.auditing.noise_rows import NoiseRows
from privacy.auditing.planted import CANARY, Planted, WithCanaries, directions
from privacy.auditing.seed_search import SeedSearch
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import Randomness
from tests.helpers.training_steps import last_steps


@pytest.fixture
def step(setting, data):
    """A step of pFedMoAP's mixture whose first example of each client is gradient canary 2."""
    problem, params, batch = last_steps(method_class("pfedmoap")(setting), data)[-1]
    canary = torch.zeros_like(batch.labels)
    canary[:, 0] = 3
    weight = torch.where(batch.weight > 0, 1 / 3, 0.0)
    features = {**batch.features, CANARY: canary}
    return problem, params, Batch(features, batch.labels, weight, batch.streams)


@pytest.fixture
def rows(step):
    return directions(4, step[1]["context"][0].numel(), Randomness(0).stream())


def test_directions_are_orthonormal_and_no_more_than_there_is_room_for(rows):
    assert torch.allclose(rows @ rows.mT, torch.eye(4), atol=1e-5)
    with pytest.raises(PrivacyError, match="room for 1 to 8"):
        directions(9, 8, Randomness(0).stream())


def test_a_canarys_gradient_is_its_direction_and_others_keep_theirs(step, rows):
    problem, params, batch = step
    table = torch.cat([torch.zeros_like(rows[:1]), 5 * rows])
    planted = WithCanaries(problem, table)
    found = [each for each, _ in per_example_gradients(planted, params, batch, 2**20)]
    plain = [each for each, _ in per_example_gradients(problem, params, _plain(batch), 2**20)]
    context = torch.cat([each["context"] for each in found], dim=1).flatten(2)
    before = torch.cat([each["context"] for each in plain], dim=1).flatten(2)
    assert torch.allclose(context[:, 0], 5 * rows[2].expand(len(context), -1), atol=1e-5)
    assert torch.allclose(context[:, 1:], before[:, 1:], atol=1e-6)
    for name in params:
        if name != "context":
            assert all(not bool(each[name][:, 0].any()) for each in found[:1])


def test_a_noiseless_step_holds_the_clipped_canary(step, rows):
    """The score of an included canary is the clipping norm over the normaliser, of others zero."""
    problem, params, batch = step
    streams = [Randomness(i).stream() for i in range(len(batch.labels))]
    real = SampledGaussian(noise_multiplier=0.0, max_grad_norm=0.1, normaliser=3.0)

    class Noiseless(NoPrivacy):
        def gradients(self, problem, params, batch):
            return real.gradients(problem, params, batch, streams)

    planted = Planted(Noiseless(), rows, 1.0, NoiseRows(SeedSearch(seeds=2)))
    planted.gradients(problem, params, batch)
    expected = torch.tensor([0.0, 0.0, 0.1 / 3, 0.0])
    drawn = [s.client for s, w in zip(batch.streams, batch.weight, strict=True) if w[0] > 0]
    assert drawn
    for client in drawn:
        assert torch.allclose(planted.scores[client], expected, atol=4e-3)


def test_problems_without_a_prompt_are_refused(step, rows):
    problem, params, batch = step
    planted = Planted(NoPrivacy(), rows, 1.0, NoiseRows(SeedSearch(seeds=2)))
    gates = {name: value for name, value in params.items() if name != "context"}
    with pytest.raises(PrivacyError, match="trains"):
        planted.gradients(problem, gates, batch)


def _plain(batch):
    return replace(batch, features={k: v for k, v in batch.features.items() if k != CANARY})
