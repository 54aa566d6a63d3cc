"""One private step: equal to the plain one without noise and clipping, and bounded with them."""

from dataclasses import dataclass, replace

import pytest
import torch

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.methods.registry import method_class
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.clipping import FixedClipping
from privacy.mechanisms.mechanism import SampledGaussian, with_penalty
from privacy.mechanisms.noisy_sum import spacing
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import Randomness
from tests.helpers.training_steps import last_steps, with_weights

NO_CLIPPING = 1e9


def streams(count, seed=0):
    return [Randomness(seed + i).stream() for i in range(count)]


def noiseless(max_grad_norm, normaliser=4.0, memory_bytes=2**30):
    return SampledGaussian(0.0, max_grad_norm, normaliser, memory_bytes)


def formed(mechanism, problem, params, batch, seed=0):
    return mechanism.gradients(problem, params, batch, streams(len(batch.labels), seed))[0]


def distance(first, second):
    """Distance of two clients' gradients over all parameters together, (K,)."""
    return torch.cat([(first[n] - second[n]).flatten(1) for n in first], dim=1).norm(dim=1)


@pytest.fixture(params=["promptfl", "fedprox", "pfedmoap"])
def step(request, setting, data):
    """A problem, its parameters and a batch of three clients with some padding."""
    problem, params, batch = last_steps(method_class(request.param)(setting), data)[-1]
    weight = torch.full_like(batch.weight, 1 / 4)
    weight[1, -1] = 0
    return problem, params, with_weights(batch, weight)


def test_no_noise_and_no_clipping_is_the_plain_step(step):
    problem, params, batch = step
    plain, _ = NoPrivacy().gradients(problem, params, batch)
    private = formed(noiseless(NO_CLIPPING), problem, params, batch)
    for name in plain:
        assert torch.allclose(private[name], plain[name], rtol=1e-5, atol=1e-6)


def test_one_example_moves_the_sum_by_at_most_the_clipping_norm(step):
    problem, params, batch = step
    for trial, clip in enumerate((1e-3, 0.1, 1.0) * 4):
        draws = torch.Generator().manual_seed(trial)
        mechanism = noiseless(clip, normaliser=1.0)
        weight = (torch.rand(batch.weight.shape, generator=draws) < 0.5).float()
        neighbour = weight.clone()
        changed = torch.randint(weight.shape[1], (len(weight),), generator=draws)
        rows = torch.arange(len(weight))
        neighbour[rows, changed] = 1 - neighbour[rows, changed]
        gap = distance(
            formed(mechanism, problem, params, with_weights(batch, weight)),
            formed(mechanism, problem, params, with_weights(batch, neighbour)),
        )
        assert bool((gap <= clip * (1 + 1e-5)).all())
        assert float(gap.max()) > 0


def test_padding_contributes_exactly_nothing(step):
    problem, params, batch = step
    mechanism = noiseless(0.1)
    alone = formed(mechanism, problem, params, batch)
    features = {kind: value.clone() for kind, value in batch.features.items()}
    features["image"][1, -1] = float("nan")
    other = formed(mechanism, problem, params, replace(batch, features=features))
    assert all(torch.equal(alone[name], other[name]) for name in alone)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_an_example_that_is_not_finite_cannot_shout(step, poison):
    problem, params, batch = step
    clip = 0.1
    features = {kind: value.clone() for kind, value in batch.features.items()}
    features["image"][0, 0] = poison
    out = batch.weight.clone()
    out[0, 0] = 0
    mechanism = noiseless(clip, normaliser=1.0)
    gap = distance(
        formed(mechanism, problem, params, replace(batch, features=features)),
        formed(mechanism, problem, params, with_weights(batch, out)),
    )
    assert bool((gap <= clip * (1 + 1e-5)).all())


def test_chunks_change_nothing(step):
    problem, params, batch = step
    for noise in (0.0, 1.0):
        whole = formed(SampledGaussian(noise, 0.1, 4.0), problem, params, batch)
        parts = formed(SampledGaussian(noise, 0.1, 4.0, memory_bytes=1), problem, params, batch)
        cell = noise * 0.1 / 4.0 / 1024  # a sum at its edge may round to either side
        for name in whole:
            assert torch.allclose(whole[name], parts[name], rtol=1e-5, atol=1e-7 + cell)


def test_an_empty_batch_is_noise_alone(step):
    problem, params, batch = step
    empty = with_weights(batch, torch.zeros_like(batch.weight))
    silent = formed(noiseless(1.0), problem, params, empty)
    noisy = formed(SampledGaussian(1.0, 1.0, 4.0), problem, params, empty)
    penalty, _ = NoPrivacy().gradients(problem, params, empty)
    for name in params:
        assert torch.allclose(silent[name], penalty[name])
        assert float((noisy[name] - penalty[name]).std()) > 0.1


def test_the_noise_has_the_promised_size(setting, data):
    problem, params, batch = last_steps(method_class("promptfl")(setting), data)[0]
    sigma, clip, normaliser = 3.0, 0.5, 4.0
    quiet = formed(noiseless(clip, normaliser), problem, params, batch)
    draws = [
        formed(SampledGaussian(sigma, clip, normaliser), problem, params, batch, seed)["context"]
        for seed in range(0, 60, 3)
    ]
    noise = torch.stack(draws) - quiet["context"]
    assert float(noise.std()) == pytest.approx(sigma * clip / normaliser, rel=0.03)
    assert abs(float(noise.mean())) < 0.01
    assert float(noise[0].std(dim=0).min()) > 0.0  # every client draws its own


@dataclass(frozen=True)
class Pulled(PromptProblem):
    """A prompt with a pull that does not depend on the data."""

    def penalty(self, params):
        return 100 * params["context"].flatten(1).sum(1)


def test_the_penalty_is_neither_clipped_nor_divided(setting, data):
    problem, params, batch = last_steps(method_class("promptfl")(setting), data)[0]
    pulled = Pulled(problem.encoder, problem.scale)
    with_pull = formed(noiseless(0.1), pulled, params, batch)
    without = formed(noiseless(0.1), problem, params, batch)
    assert torch.allclose(with_pull["context"] - without["context"], torch.tensor(100.0))


def test_problems_without_shared_values_are_clipped_as_well():
    """A parameter that every example meets directly, like a gate's, needs no pull-back."""

    class Line:
        def represent(self, params):
            return {}

        def losses(self, params, shared, features, labels):
            return (features["x"] * params["w"].unsqueeze(1)).sum(-1)

        def penalty(self, params):
            return params["w"].new_zeros(len(params["w"]))

    x = torch.tensor([[[3.0, 4.0], [0.3, 0.4]]])
    batch = Batch(
        {"x": x},
        torch.zeros(1, 2, dtype=torch.int64),
        torch.ones(1, 2),
        (Stream(0, ClientId(0), 1),),
    )
    found = formed(noiseless(1.0, 1.0), Line(), {"w": torch.zeros(1, 2)}, batch)
    assert torch.allclose(found["w"], torch.tensor([[0.9, 1.2]]), atol=1e-5)


@pytest.mark.parametrize(("adaptive", "noise"), [(False, 0.0), (False, 0.8), (True, 0.8)])
def test_sums_side_by_side_are_those_of_each_client_alone(step, noise, adaptive):
    """Beside the truth, the sum of one client that Opacus clips, with the same streams."""
    problem, params, batch = step
    clipping = FixedClipping(noise, 4.0)
    rule = AdaptiveClipping(0.4, 0.2, noise, 4.0, count_noise_std=5.0) if adaptive else None
    mechanism = SampledGaussian(noise, 0.05, 4.0, adaptive=rule)
    for turn in range(2):
        norms = [mechanism.norms.get(who.client, (0, 0.05))[1] for who in batch.streams]
        found = formed(mechanism, problem, params, batch, turn)
        chunks = per_example_gradients(problem, params, batch, 2**30)
        samples = [chunk for chunk, _ in chunks]
        for row, stream in enumerate(streams(len(batch.labels), turn)):
            like = {name: value[row] for name, value in params.items()}
            total = (rule or clipping).sum(like, norms[row], stream)
            for chunk in samples:
                there = batch.weight[row] > 0
                kept = {n: v[row] * there.view(-1, *[1] * (v.dim() - 2)) for n, v in chunk.items()}
                total.add(kept, there)
            summed, norm = total.finish()
            whole = {name: torch.zeros_like(value) for name, value in params.items()}
            for name, value in summed.items():
                whole[name][row] = value
            alone = {n: v[row] for n, v in with_penalty(problem, params, whole).items()}
            for name in params:
                # Where a number lies between two points of the coarse grid, roundoff decides.
                cell = 1e-8 + spacing(noise * (1.0 if adaptive else 0.05), 2.0**-10) / 4
                torch.testing.assert_close(found[name][row], alone[name], rtol=1e-5, atol=cell)
            after = mechanism.norms[batch.streams[row].client][1]
            assert float(after) == pytest.approx(float(norm), rel=1e-6)


def test_a_client_beside_others_is_a_client_beside_none(step):
    """What other clients' examples are does not change a bit of a client's sum."""
    problem, params, batch = step
    together = formed(SampledGaussian(0.8, 0.05, 4.0), problem, params, batch)
    empty = batch.weight.clone()
    empty[1:] = 0
    alone = formed(SampledGaussian(0.8, 0.05, 4.0), problem, params, with_weights(batch, empty))
    for name in params:
        assert torch.equal(together[name][0], alone[name][0])
