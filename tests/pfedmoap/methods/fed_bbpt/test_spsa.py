"""Zeroth-order gradients against true ones, on functions whose gradient is known."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.methods.fed_bbpt.spsa import Gains, look_ahead_step, segmented_uniform, spsa
from pfedmoap.seeding import generator


def quadratic(size: int):
    root = torch.randn(size, size, generator=generator(0, "root")) / size**0.5
    matrix = (root @ root.T + torch.eye(size)).double()

    def loss(weights: torch.Tensor) -> float:
        return float(weights.double() @ matrix @ weights.double() / 2)

    return loss, matrix.float()


def test_perturbations_are_segmented_uniform():
    drawn = segmented_uniform(20_000, generator(0, "draw"))
    assert drawn.dtype == torch.float32
    assert 0.5 <= drawn.abs().min() < 0.501
    assert 0.999 < drawn.abs().max() <= 1.0
    assert abs(drawn.abs().mean() - 0.75) < 0.005
    assert abs((drawn > 0).float().mean() - 0.5) < 0.02


def test_estimate_divides_by_the_perturbation():
    """One draw by hand: (L+ - L-) / (2 c D), elementwise; multiplying would be another law."""
    loss, _ = quadratic(6)
    weights = torch.randn(6, generator=generator(1))
    perturbation = segmented_uniform(6, generator(2))
    ahead, behind = loss(weights + 0.01 * perturbation), loss(weights - 0.01 * perturbation)
    found = spsa(loss, weights, 0.01, 1, generator(2))
    by_hand = (ahead - behind) / (2 * 0.01 * perturbation)
    assert torch.allclose(found.gradient, by_hand)
    assert not torch.allclose(found.gradient, (ahead - behind) / 0.02 * perturbation, rtol=0.1)
    assert found.loss == pytest.approx((ahead + behind) / 2)


def test_both_sides_of_a_draw_use_one_perturbation():
    asked = []
    weights = torch.randn(5, generator=generator(1))
    spsa(lambda w: asked.append(w) or 0.0, weights, 0.1, 3, generator(2))
    assert len(asked) == 6
    for ahead, behind in zip(asked[::2], asked[1::2], strict=True):
        assert torch.allclose((ahead + behind) / 2, weights, atol=1e-6)
        assert torch.all((ahead - weights).abs() >= 0.05 - 1e-6)
    assert not torch.allclose(asked[0], asked[2])


def test_average_of_many_draws_is_the_true_gradient():
    loss, matrix = quadratic(10)
    weights = torch.randn(10, generator=generator(1))
    found = spsa(loss, weights, 0.01, 4000, generator(2)).gradient
    true = matrix @ weights
    assert F.cosine_similarity(found, true, dim=0) > 0.97
    assert (found - true).norm() < 0.25 * true.norm()


def test_more_draws_correlate_better():
    loss, matrix = quadratic(40)
    weights = torch.randn(40, generator=generator(1))
    true = matrix @ weights

    def correlation(draws: int) -> float:
        found = [spsa(loss, weights, 0.01, draws, generator(i)).gradient for i in range(30)]
        return float(torch.stack([F.cosine_similarity(g, true, dim=0) for g in found]).mean())

    few, many = correlation(1), correlation(16)
    assert 0.05 < few < many
    assert many > 0.4


def test_variance_falls_with_the_clients_that_are_averaged():
    """Averaging the estimates of N clients is like N times as many draws."""
    loss, _ = quadratic(8)
    weights = torch.randn(8, generator=generator(1))

    def spread(clients: int) -> float:
        means = [
            torch.stack(
                [
                    spsa(loss, weights, 0.01, 1, generator(trial, "client", client)).gradient
                    for client in range(clients)
                ]
            ).mean(0)
            for trial in range(200)
        ]
        return float(torch.stack(means).var(0).mean())

    assert spread(1) / spread(8) == pytest.approx(8, rel=0.3)


@pytest.mark.parametrize("weights", [torch.zeros(4).half(), torch.zeros(2, 2)])
def test_weights_that_are_not_one_float32_vector_are_refused(weights):
    with pytest.raises(ShapeError, match="float32"):
        spsa(lambda _: 0.0, weights, 0.01, 1, generator(0))


def test_probe_drowns_in_half_precision():
    """Why half precision is refused: near 32 its step is 0.03, three times the probe."""
    weights = torch.full((100,), 40.0)
    probe = 0.01 * segmented_uniform(100, generator(0))
    assert torch.equal((weights.half() + probe.half()), weights.half())
    assert not torch.equal(weights + probe, weights)


def test_no_draw_is_refused():
    with pytest.raises(ConfigError, match="draws"):
        spsa(lambda _: 0.0, torch.zeros(2), 0.01, 0, generator(0))


def test_look_ahead_step_by_hand():
    weights, velocity = torch.tensor([1.0, -2.0]), torch.zeros(2)
    for k in range(1, 4):
        gradient = torch.tensor([0.5, -1.0]) * k
        expected_velocity = 0.9 * velocity + gradient
        expected = weights - 0.1 * (gradient + 0.9 * expected_velocity)
        weights, velocity = look_ahead_step(weights, velocity, gradient, 0.1, 0.9)
        assert torch.allclose(weights, expected)
        assert torch.allclose(velocity, expected_velocity)


def test_look_ahead_is_torchs_nesterov():
    ours, velocity = torch.tensor([1.0, -2.0]), torch.zeros(2)
    theirs = torch.nn.Parameter(ours.clone())
    optimiser = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(5):
        theirs.grad = 3 * theirs.detach()
        optimiser.step()
        ours, velocity = look_ahead_step(ours, velocity, 3 * ours, 0.1, 0.9)
    assert torch.allclose(ours, theirs)


def test_gains_by_hand():
    gains = Gains(step=0.2, step_offset=1, step_decay=0.4, probe=0.05, probe_decay=0.1)
    assert gains.step_size(1) == pytest.approx(0.2 / 2**0.4)
    assert gains.step_size(31) == pytest.approx(0.2 / 32**0.4)
    assert gains.probe_size(1) == 0.05
    assert gains.probe_size(1024) == pytest.approx(0.05 / 2)
    sizes = [gains.step_size(k) for k in range(1, 50)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("options", [{"step": 0.0}, {"probe": -1.0}, {"step_decay": -0.1}])
def test_impossible_gains_are_refused(options):
    with pytest.raises(ConfigError, match="gains"):
        Gains(**options)
