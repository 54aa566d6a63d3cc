"""The generative model: densities by hand, matchings by brute force."""

import itertools
import math

import pytest
import torch

from pfedmoap.methods.pfpt.generative_model import PromptModel, best_assignment


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def sets() -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(5)
    return [torch.randn(n, 4, generator=stream, dtype=torch.float64) for n in (3, 2, 3)]


@pytest.fixture
def model(sets) -> PromptModel:
    return PromptModel(torch.cat(sets)[:5] + 0.3, seed=2)


def scatter_by_hand(model: PromptModel) -> torch.Tensor:
    value = model.scatter(model.candidates).sigmoid()
    return value if model.spread == "variance" else value.square()


def by_hand(model: PromptModel, prompt: torch.Tensor, candidate: int) -> float:
    normal = torch.distributions.Normal(
        model.candidates[candidate], scatter_by_hand(model)[candidate].sqrt()
    )
    return float(normal.log_prob(prompt).sum())


@pytest.mark.parametrize("spread", ["variance", "deviation"])
def test_the_network_gives_a_variance_and_on_request_a_deviation(sets, spread):
    """Pitfall: the released code takes the sigmoid as a standard deviation."""
    model = PromptModel(torch.cat(sets)[:5], spread=spread)
    found = model.log_density(sets[0])
    for k, i in itertools.product(range(3), range(5)):
        assert float(found[k, i]) == pytest.approx(by_hand(model, sets[0][k], i))


def test_the_objective_is_the_papers_sum(model, sets):
    assignment = [torch.tensor([0, 2, 4]), torch.tensor([2, 1]), torch.tensor([3, 4, 0])]
    p = model.popularity(model.candidates).sigmoid()[:, 0].tolist()
    expected = len(sets) * sum(math.log(1 - each) for each in p)
    for prompts, chosen in zip(sets, assignment, strict=True):
        for prompt, i in zip(prompts, chosen.tolist(), strict=True):
            expected += by_hand(model, prompt, i) + math.log(p[i] / (1 - p[i]))
    assert float(model.objective(sets, assignment)) == pytest.approx(expected)


def test_a_matching_is_the_best_of_all(model, sets):
    found = model.match(sets[0], torch.tensor([0, 1, 2]))

    def value(columns: tuple[int, ...]) -> float:
        return float(model.objective([sets[0]], [torch.tensor(columns)]))

    best = max(itertools.permutations(range(5), 3), key=value)
    assert tuple(found.tolist()) == best


def test_no_matching_lowers_the_objective(model, sets):
    stream = torch.Generator().manual_seed(9)
    for _ in range(20):
        now = [torch.randperm(5, generator=stream)[: len(one)] for one in sets]
        for client, prompts in enumerate(sets):
            before = float(model.objective(sets, now))
            now[client] = model.match(prompts, now[client])
            assert float(model.objective(sets, now)) >= before - 1e-9


def test_matching_follows_the_log_odds_and_on_request_the_incumbent(sets):
    """Pitfall: the released code rewards what is assigned already, the paper what is popular."""
    twins = torch.zeros(2, 4, dtype=torch.float64)
    prompt = torch.full((1, 4), 0.1, dtype=torch.float64)
    current = torch.tensor([1])
    paper = PromptModel(twins)
    code = PromptModel(twins, usage="incumbent")
    for model in (paper, code):
        model.candidates[0, 0] += 1e-4  # hardly nearer, and more popular
        model.popularity[2].bias.fill_(3.0)
        for layer in (model.scatter[0], model.scatter[2]):
            layer.weight.zero_()
        model.popularity[0].weight.fill_(1.0)
        model.popularity[2].weight.fill_(1.0)
    assert paper.log_odds()[0] > paper.log_odds()[1]
    assert paper.match(prompt, current).tolist() == [0]
    assert code.match(prompt, current).tolist() == [1]


def test_networks_come_from_the_seed_alone():
    torch.manual_seed(1)
    candidates = torch.zeros(2, 3, dtype=torch.float64)
    first = PromptModel(candidates, seed=4)
    torch.manual_seed(2)
    second, other = PromptModel(candidates, seed=4), PromptModel(candidates, seed=5)
    assert torch.equal(first.scatter[0].weight, second.scatter[0].weight)
    assert not torch.equal(first.scatter[0].weight, other.scatter[0].weight)


def test_assignments_give_every_row_a_column_of_its_own():
    score = torch.tensor([[5.0, 4.0, 0.0], [5.0, 0.0, 0.0]])
    assert best_assignment(score).tolist() == [1, 0]
