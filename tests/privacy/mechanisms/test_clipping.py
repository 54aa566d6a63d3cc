"""Clipping norms that follow a quantile: against sums by hand, their price, and where they go."""

import math
from dataclasses import replace

import pytest
import torch
from opacus.optimizers import AdaClipDPOptimizer
from torch import nn

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.clipping import FixedClipping, lengths
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.tally import Tally

NORMALISER = 10.0
LIKE = {"prompt": torch.zeros(4, 3), "gate": torch.zeros(5)}


def stream(*names):
    return Randomness(7).stream(*names)


def adaptive(target=0.5, noise=0.8, **options):
    return AdaptiveClipping(target, 0.3, noise, NORMALISER, **options)


def vectors(count, scale=1.0, seed=0):
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.rand(count, generator=draws) * 2 * scale
    found = {
        name: torch.randn(count, *value.shape, generator=draws) for name, value in LIKE.items()
    }
    norms = torch.cat([value.flatten(1) for value in found.values()], dim=1).norm(dim=1)
    return {
        name: value * (lengths / norms).view(-1, *[1] * (value.dim() - 1))
        for name, value in found.items()
    }


def finished(clipping, norm, batch, present=None):
    total = clipping.sum(LIKE, norm, stream("noise"))
    if batch is not None:
        count = len(batch["gate"])
        total.add(batch, torch.ones(count, dtype=torch.bool) if present is None else present)
    return total.finish()


def by_hand(clipping, norm, batch):
    """The paper's algorithm, vector by vector, with the noise taken out."""
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in LIKE.items()}
    within = 0.0
    for row in range(len(batch["gate"])):
        own = {name: value[row].double() for name, value in batch.items()}
        length = math.sqrt(sum(float((value**2).sum()) for value in own.values()))
        for name, value in own.items():
            sums[name] += value * min(1.0, norm / length)
        within += (length <= norm) - clipping.target_quantile
    return {name: value / NORMALISER for name, value in sums.items()}, within / NORMALISER


@pytest.mark.parametrize("target", [0.3, 0.5, 0.9])
def test_sum_and_next_norm_are_those_computed_by_hand(target):
    """The same noise on vectors and on none: the difference is what the vectors did."""
    clipping, norm, batch = adaptive(target), 0.7, vectors(9)
    sums, following = finished(clipping, norm, batch)
    noise, silent = finished(clipping, norm, None)
    expected, above = by_hand(clipping, norm, batch)
    grid = 2**-9 * clipping.noise_multiplier  # results are rounded
    for name, value in expected.items():
        assert torch.allclose((sums[name] - noise[name]).double(), value, atol=grid)
    moved = math.log(float(following)) - math.log(float(silent))
    assert moved == pytest.approx(-0.3 * above, abs=0.3 * 2**-9 * clipping.count_std)


def test_one_vector_moves_the_pair_by_at_most_its_sensitivity():
    """In units of both noises together: the sum of squares that one Gaussian is accounted for."""
    for target in (0.2, 0.5, 0.8):
        for scale in (0.01, 0.5, 50.0):
            clipping, norm = adaptive(target, noise=2.0), 0.6
            many = vectors(6, scale)
            fewer = {name: value[:-1] for name, value in many.items()}
            (sums, more), (others, less) = (
                finished(clipping, norm, many),
                finished(clipping, norm, fewer),
            )
            gap = torch.cat([(sums[n] - others[n]).flatten() for n in LIKE]).norm() * NORMALISER
            count = abs(math.log(float(more) / float(less))) / 0.3 * NORMALISER
            pull = float(gap / (clipping.sum_noise_multiplier * norm)) ** 2
            pull += (count / clipping.count_std) ** 2
            assert math.sqrt(pull) <= 1.01 / clipping.noise_multiplier


def test_at_the_median_it_is_opacus_with_the_public_normaliser():
    """Price of the sum, next norm and clipped sum, against Opacus' optimiser without noise."""
    clipping, batch = adaptive(noise=1.1, count_noise_std=2.0), vectors(9)
    assert clipping.sum_noise_multiplier == pytest.approx((1.1**-2 - (2 * 2.0) ** -2) ** -0.5)
    params = {name: nn.Parameter(value) for name, value in LIKE.items()}
    theirs = AdaClipDPOptimizer(
        torch.optim.SGD(list(params.values()), lr=0.0),
        noise_multiplier=0.0,
        target_unclipped_quantile=0.5,
        clipbound_learning_rate=0.3,
        max_clipbound=1e3,
        min_clipbound=1e-3,
        unclipped_num_std=1e-9,
        max_grad_norm=torch.tensor(0.7),
        expected_batch_size=NORMALISER,
    )
    for name, parameter in params.items():
        parameter.grad_sample = batch[name]
    theirs.clip_and_accumulate()
    theirs.add_noise()
    theirs.scale_grad()
    theirs.update_max_grad_norm()  # divides by the true number, 9, and not by the public one
    sums, following = finished(clipping, 0.7, batch)
    noise, silent = finished(clipping, 0.7, None)
    for name, parameter in params.items():
        assert torch.allclose(sums[name] - noise[name], parameter.grad, atol=2**-8)
    ours = math.log(float(following) / float(silent)) * NORMALISER / 9
    assert ours == pytest.approx(math.log(float(theirs.max_grad_norm) / 0.7), abs=0.01)


def test_both_noises_are_as_promised():
    clipping = adaptive(noise=0.9, count_noise_std=3.0)
    like = {"prompt": torch.zeros(20_000)}
    sums, _ = clipping.sum(like, 0.5, stream("one")).finish()
    expected = clipping.sum_noise_multiplier * 0.5 / NORMALISER
    assert float(sums["prompt"].std()) == pytest.approx(expected, rel=0.03)
    small = {"prompt": torch.zeros(1)}
    norms = [float(clipping.sum(small, 1.0, stream("n", i)).finish()[1]) for i in range(2000)]
    counts = torch.tensor(norms).log() / -0.3 * NORMALISER
    assert float(counts.std()) == pytest.approx(3.0, rel=0.06)
    assert float(counts.mean()) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("target", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.01, 30.0])
@pytest.mark.parametrize("normaliser", [25.0, 400.0])
def test_the_norm_goes_to_the_quantile(target, start, normaliser):
    """From below and from above, and also where the normaliser is not the number of vectors."""
    clipping = AdaptiveClipping(target, 0.2 * normaliser / 100, 0.5, normaliser, count_noise_std=5)
    batch = vectors(100)
    present = torch.ones(100, dtype=torch.bool)
    norm, tail = torch.tensor(start), []
    for step in range(150):
        total = clipping.sum(LIKE, norm, stream(step))
        total.add(batch, present)
        _, norm = total.finish()
        tail.append(norm)
    reached = torch.stack(tail[-60:]).mean()
    assert float((lengths(batch) <= reached).float().mean()) == pytest.approx(target, abs=0.08)


def test_what_is_absent_adds_nothing():
    batch = vectors(4)
    zeroed = {name: value.clone() for name, value in batch.items()}
    for value in zeroed.values():
        value[2:] = 0.0
    present = torch.tensor([True, True, False, False])
    padded = finished(adaptive(0.4), 0.5, zeroed, present)
    bare = finished(adaptive(0.4), 0.5, {name: value[:2] for name, value in batch.items()})
    assert all(torch.equal(padded[0][name], bare[0][name]) for name in LIKE)
    assert float(padded[1]) == float(bare[1])


def test_options_without_a_meaning_are_refused():
    with pytest.raises(PrivacyError, match=r"count_noise_std must be .* more than 0.4"):
        adaptive(noise=0.8, count_noise_std=0.39)
    for target in (0.0, 1.0, math.nan):
        with pytest.raises(PrivacyError, match="target_quantile"):
            adaptive(target=target)
    for rate in (0.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="clip_learning_rate"):
            replace(adaptive(), learning_rate=rate)


def test_the_chosen_count_noise_costs_the_sum_at_most_4_percent():
    for noise in (0.3, 1.0, 20.0):
        for target in (0.1, 0.5, 0.7):
            clipping = adaptive(target, noise)
            assert noise < clipping.sum_noise_multiplier < 1.04 * noise
    wide = AdaptiveClipping(0.5, 0.2, 1.0, 1000.0)
    assert wide.count_std == 50.0  # the paper's twentieth


def test_the_tally_counts_each_vector_once_and_begins_anew():
    tally = Tally()
    total = FixedClipping(0.0, 1.0).sum(LIKE, 1.0, stream("x"))
    batch = {name: torch.zeros(3, *value.shape) for name, value in LIKE.items()}
    batch["gate"][0], batch["gate"][1] = 2.0, 0.1
    there = torch.tensor([True, True, False])
    tally.note(ClientId(3), total.add(batch, there), there)
    tally.note(ClientId(3), torch.tensor([True]), torch.tensor([True]))
    tally.note(ClientId(4), torch.tensor([True]), torch.tensor([False]))
    assert tally.take() == {ClientId(3): pytest.approx(2 / 3)}
    assert tally.take() == {}


@pytest.mark.parametrize("clipping", [FixedClipping(0.8, NORMALISER), adaptive()])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_vector_that_is_not_finite_adds_nothing_to_any_sum(clipping, bad):
    """Whoever forms the vectors: infinity clipped to nothing would be no number."""
    good = vectors(3)
    hurt = {name: torch.cat([value, torch.ones_like(value[:1])]) for name, value in good.items()}
    hurt["gate"][3, 2] = bad
    for found, expected in zip(
        finished(clipping, 1.0, hurt)[0].items(),
        finished(clipping, 1.0, good)[0].items(),
        strict=True,
    ):
        assert torch.equal(found[1], expected[1])
    assert finished(clipping, 1.0, hurt)[1] == finished(clipping, 1.0, good)[1]
