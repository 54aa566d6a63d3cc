"""Clipping norms that adapt within private steps, and what is counted of them at home."""

import json
import math
from dataclasses import replace

import pytest
import torch

from eval.commands.audit import main as audit
from pfedmoap.client.batches import Stream
from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.tally import Tally
from privacy.options import DPSGD, Release
from tests.helpers.training_steps import last_steps, run_rounds, with_weights

PLAN = PlannedTraining(rounds=3, epochs=1, batch_size=3)
NORM, RATE = 0.05, 0.4


def mechanism(target=0.5, noise=0.7, **options):
    adaptive = AdaptiveClipping(target, RATE, noise, 3.0, **options)
    return SampledGaussian(noise, NORM, 3.0, adaptive=adaptive)


def streams(batch, step, seed=5):
    return [Randomness(seed).stream("noise", row, step) for row in range(len(batch.streams))]


@pytest.fixture
def step(setting, data):
    (found,) = last_steps(method_class("promptfl")(setting), data)
    return found


def empty(batch):
    return with_weights(batch, torch.zeros_like(batch.weight))


def in_round(batch, round):
    return replace(batch, streams=[Stream(one.seed, one.client, round) for one in batch.streams])


def test_three_steps_are_those_computed_one_example_at_a_time(step):
    """Sums and norms by hand; the noise is what the same streams give on empty batches."""
    problem, params, batch = step
    target = 0.6
    real, bare = mechanism(target), mechanism(target)
    chunks = list(per_example_gradients(problem, params, batch, 2**30))
    samples = torch.cat([chunk["context"] for chunk, _ in chunks], dim=1).double()  # (K, B, ...)
    norms = [NORM] * len(batch.streams)
    noisy_norms = list(norms)
    for turn in range(3):
        found = real.gradients(problem, params, batch, streams(batch, turn))[0]["context"]
        for row in range(len(norms)):
            total, above = torch.zeros_like(samples[0, 0]), 0.0
            norm = noisy_norms[row]
            for place in range(samples.shape[1]):
                if batch.weight[row, place] > 0:
                    length = float(samples[row, place].norm())
                    total += samples[row, place] * min(1.0, norm / length)
                    above += (length <= norm) - target
            # The same noise on nothing, from the norm that this client has now.
            bare.norms[batch.streams[row].client] = (batch.streams[row].round, norm)
            silent = bare.gradients(problem, params, empty(batch), streams(batch, turn))
            gap = (found[row] - silent[0]["context"][row]).double()
            assert torch.allclose(gap, total / 3, atol=2**-8 * norm)
            quiet = float(bare.norms[batch.streams[row].client][1])
            noisy_norms[row] = quiet * math.exp(-RATE * above / 3)
            kept = float(real.norms[batch.streams[row].client][1])
            assert kept == pytest.approx(noisy_norms[row], rel=0.01)


def test_each_round_starts_from_the_first_norm(step):
    problem, params, batch = step
    adapting, fresh = mechanism(), mechanism()
    for turn in range(4):
        adapting.gradients(problem, params, batch, streams(batch, turn))
    later = in_round(batch, batch.streams[0].round + 1)
    found = adapting.gradients(problem, params, later, streams(batch, 9))[0]["context"]
    expected = fresh.gradients(problem, params, later, streams(batch, 9))[0]["context"]
    assert torch.equal(found, expected)
    again = adapting.gradients(problem, params, later, streams(batch, 9))[0]["context"]
    assert not torch.equal(found, again)  # within the round it has moved


def test_clients_adapt_apart(step):
    """What one client holds moves nobody else's norm."""
    problem, params, batch = step
    alike, other = mechanism(), mechanism()
    weight = batch.weight.clone()
    weight[0] = 0.0
    for turn in range(3):
        alike.gradients(problem, params, batch, streams(batch, turn))
        other.gradients(problem, params, with_weights(batch, weight), streams(batch, turn))
    first, *rest = [one.client for one in batch.streams]
    assert float(alike.norms[first][1]) != float(other.norms[first][1])
    assert all(float(alike.norms[c][1]) == float(other.norms[c][1]) for c in rest)


def test_the_norm_of_real_steps_goes_to_the_quantile(step):
    """Steps on one batch, from a norm that is far too small and from one that is far too large."""
    problem, params, batch = step
    chunks = list(per_example_gradients(problem, params, batch, 2**30))
    samples = torch.cat([chunk["context"] for chunk, _ in chunks], dim=1)
    quick = AdaptiveClipping(0.5, 1.5, 0.05, 3.0, count_noise_std=0.1)
    for start in (NORM / 20, NORM * 1000):
        real = SampledGaussian(0.05, start, 3.0, adaptive=quick)
        for turn in range(40):
            real.gradients(problem, params, batch, streams(batch, turn))
        for row, one in enumerate(batch.streams):
            own = samples[row][batch.weight[row] > 0].flatten(1).norm(dim=1)
            if not len(own):
                continue  # there is nothing to follow but noise
            reached = float(real.norms[one.client][1])
            assert float(own.min()) / 2 < reached < 2 * float(own.max())


@pytest.mark.parametrize("mode", ["joint", "decoupled"])
def test_whole_rounds_adapt_and_cost_the_same_epsilon(setting, data, mode):
    method = method_class("pfedmoap")(setting)
    fixed = DPSGD(sample_rate=0.5, mode=mode).privatizer(method, PLAN, None)
    options = DPSGD(sample_rate=0.5, mode=mode, clipping="adaptive", target_quantile=0.7)
    privacy = options.privatizer(method, PLAN, None)
    _, _, results = run_rounds(method, data, privacy, 3)
    assert results[-1].epsilon.keys() == set(data)
    said, plain = privacy.describe(), fixed.describe()
    assert said["epsilon_planned"] == plain["epsilon_planned"]
    assert said["mechanism"]["noise_multiplier"] == plain["mechanism"]["noise_multiplier"]
    assert said["mechanism"]["sum_noise_multiplier"] > said["mechanism"]["noise_multiplier"]
    assert said["mechanism"]["clipping"] == "adaptive"
    assert "clipping" not in plain["mechanism"]  # ledgers of fixed norms stay valid
    json.dumps(said)


def test_shares_of_clipped_gradients_are_counted_at_home_alone(setting, data, tmp_path):
    method = method_class("promptfl")(setting)

    def shares(options, folder):
        privacy = options.privatizer(method, PLAN, folder / "ledgers")
        run = RunDirectory(folder)
        run_federation(method, data, Rounds(2), 0, privacy, run=run)
        assert "clipped" not in (folder / "metrics.jsonl").read_text()
        return [record["clipped"] for record in run.metrics()]

    everybody = {str(client) for client in data}
    for options in (
        DPSGD(sample_rate=1.0, max_grad_norm=1e-6),
        Release(max_update_norm=1e-6),
    ):
        found = shares(options, tmp_path / f"tight-{type(options).__name__}")
        assert all(record == dict.fromkeys(everybody, 1.0) for record in found)
    for options in (
        DPSGD(sample_rate=1.0, max_grad_norm=1e6),
        Release(max_update_norm=1e6),
    ):
        found = shares(options, tmp_path / f"wide-{type(options).__name__}")
        assert all(record == dict.fromkeys(everybody, 0.0) for record in found)


def test_padding_is_not_counted(step):
    problem, params, batch = step
    tally = Tally()
    real = SampledGaussian(0.5, 1e-9, 3.0, tally=tally)
    real.gradients(problem, params, empty(batch), streams(batch, 0))
    assert tally.take() == {}
    weight = batch.weight.clone()
    weight[:, 1:] = 0.0
    real.gradients(problem, params, with_weights(batch, weight), streams(batch, 0))
    assert tally.take() == {
        one.client: 1.0 for one, own in zip(batch.streams, weight, strict=True) if own.any()
    }


def test_the_audit_wants_fixed_norms(capsys):
    with pytest.raises(SystemExit):
        audit(["--privacy.clipping", "adaptive", "--partition.clients", "4"])
    printed = capsys.readouterr()
    assert "--privacy.clipping fixed" in printed.out + printed.err
