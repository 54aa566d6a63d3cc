"""FedAMP's cloud prompts against a double loop over clients."""

import math

import pytest
import torch

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedamp.cloud_prompts import message_weights
from pfedmoap.methods.fedamp.method import FedAMP
from pfedmoap.wire.messages import ClientId


def prompts(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def slow_weights(flat: torch.Tensor, sigma: float, step: float) -> list[list[float]]:
    count = len(flat)
    squared = [[float((a - b) @ (a - b)) for b in flat] for a in flat]
    mean = sum(map(sum, squared)) / (count * (count - 1))
    rows = []
    for i in range(count):
        row = [
            0.0 if i == j else step / count * math.exp(-squared[i][j] / (sigma * mean))
            for j in range(count)
        ]
        row[i] = 1 - sum(row)
        rows.append(row)
    return rows


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("step", [0.3, 1.0])
def test_weights_equal_a_double_loop(sigma, step):
    flat = prompts()
    truth = torch.tensor(slow_weights(flat, sigma, step), dtype=torch.float64)
    weights = message_weights(flat, sigma, step)
    assert torch.allclose(weights, truth)
    assert bool((weights > 0).all())
    assert torch.allclose(weights.sum(1), torch.ones(5).double())


def test_weights_follow_the_gradient_of_the_papers_objective():
    """U = W - alpha grad A(W), with A = sum of 1 - exp(-d^2 / s): the paper's own definition."""
    flat, sigma, step = prompts(4), 0.7, 0.5
    squared = torch.cdist(flat, flat).pow(2)
    reach = sigma * float(squared.sum()) / (4 * 3)
    alpha = step / 4 * reach  # our step / N is their alpha / sigma
    leaf = flat.clone().requires_grad_()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    attention = sum(1 - torch.exp(-(leaf[i] - leaf[j]).pow(2).sum() / reach) for i, j in pairs)
    (gradient,) = torch.autograd.grad(attention, leaf)
    cloud = flat - alpha / 2 * gradient  # the paper takes A of d^2 by w without its factor 2
    assert torch.allclose(message_weights(flat, sigma, step) @ flat, cloud)


def test_scaling_all_prompts_leaves_the_weights_alone():
    flat = prompts()
    assert torch.allclose(message_weights(flat, 1, 1), message_weights(1e-3 * flat, 1, 1))


def test_equal_prompts_get_equal_weights_and_one_client_its_own():
    flat = prompts(1).repeat(4, 1)
    assert torch.allclose(message_weights(flat, 1, 1), torch.full((4, 4), 0.25).double())
    assert message_weights(flat[:1], 1, 1).tolist() == [[1.0]]


def test_similar_clients_hear_more_of_each_other():
    flat = torch.cat([0.1 * prompts(2), 5 + 0.1 * prompts(2)])
    weights = message_weights(flat, 0.2, 1)
    assert float(weights[0, 1]) > 50 * float(weights[0, 2])


def test_server_sends_each_client_its_own_mix(small, setting):
    world = small(FedAMP(setting))
    state, local_states, results = world.rounds(1)
    uploaded = torch.stack([result.update.arrays["context"] for result in results])
    flat = uploaded.flatten(1).double()
    truth = torch.tensor(slow_weights(flat, 1.0, 1.0), dtype=torch.float64) @ flat
    downloads = world.method.plan(state, list(world.data), 2)
    for download, row in zip(downloads, truth, strict=True):
        sent = download.arrays["context"]
        assert torch.allclose(sent.flatten().double(), row, atol=1e-6)
    assert torch.equal(local_states[ClientId(0)]["context"], uploaded[0])


def test_newcomer_gets_the_plain_mean(small, setting):
    world = small(FedAMP(setting))
    state, _, results = world.rounds(1, [ClientId(0), ClientId(1)])
    (download,) = world.method.plan(state, [ClientId(7)], 2)
    mean = torch.stack([result.update.arrays["context"] for result in results]).mean(0)
    assert torch.allclose(download.arrays["context"], mean, atol=1e-7)


def test_proximal_pull_has_a_gradient(small, setting):
    _, free, _ = small(FedAMP(setting, proximal=0.0)).rounds(1)
    _, held, _ = small(FedAMP(setting, proximal=20.0)).rounds(1)
    start = FedAMP(setting).init()["initial"]
    for client in free:
        far = (free[client]["context"] - start).norm()
        near = (held[client]["context"] - start).norm()
        assert float(near) <= float(far) + 1e-6
    assert not torch.allclose(free[ClientId(4)]["context"], held[ClientId(4)]["context"], atol=1e-4)


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"step": 1.5}, {"proximal": -1.0}])
def test_nonsense_options_are_refused(setting, options):
    with pytest.raises(ConfigError, match=r"^method\.\w+ must be"):
        FedAMP(setting, **options)
