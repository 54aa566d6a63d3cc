"""Discrete words: the policy gradient against the exact one, by listing every prompt."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fed_bbpt.spsa import look_ahead_step
from pfedmoap.methods.fed_bbpt.training import Examples
from pfedmoap.methods.fed_bbpt.words import PolicyGradient, WordPrompting
from pfedmoap.models.blackbox.interface import Answer, Question, Usage
from pfedmoap.seeding import generator

WORDS = ("a", "photo", "neon")
EXAMPLES = Examples(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.full((2,), 0.5))


LIKING = {"a": 0.0, "photo": 1.0, "neon": 2.0}


class Taste:
    """Is surer of the right answer the more it likes the words."""

    def ask(self, question: Question) -> Answer:
        (template,) = question.text.templates
        first, second, _ = template.split()
        sure = LIKING[first] - 0.5 * LIKING[second]
        return Answer(sure * torch.eye(2), Usage(2, 1))


@pytest.fixture
def prompting() -> WordPrompting:
    return WordPrompting(("cat", "dog"), WORDS, ("a", "photo"))


def exact_gradient(weights: torch.Tensor, prompting: WordPrompting) -> torch.Tensor:
    leaf = weights.clone().requires_grad_()
    chances = leaf.view(2, 3).softmax(1)
    expected = torch.zeros(())
    for pair in itertools.product(range(3), repeat=2):
        said = F.one_hot(torch.tensor(pair), 3).float().flatten()
        answer = Taste().ask(prompting.about(EXAMPLES.images)(said))
        expected = expected + chances[0, pair[0]] * chances[1, pair[1]] * EXAMPLES.loss(
            answer.logits
        )
    return torch.autograd.grad(expected, leaf)[0]


def test_starts_from_the_given_words(prompting):
    assert prompting.sentence(prompting.initial()) == "a photo {}."
    assert prompting.parameters == 6


def test_estimates_average_to_the_exact_gradient(prompting):
    weights = torch.randn(6, generator=generator(1))
    estimator = PolicyGradient(Taste(), 2, 4, 64)
    ask, stream = prompting.about(EXAMPLES.images), generator(2)
    found = [estimator.estimate(weights, ask, EXAMPLES, 1, stream) for _ in range(1500)]
    mean = torch.stack([estimate.gradient for estimate, _ in found]).mean(0)
    exact = exact_gradient(weights, prompting)
    assert F.cosine_similarity(mean, exact, dim=0) > 0.98
    assert (mean - exact).norm() < 0.2 * exact.norm()
    assert found[0][1].queries == estimator.queries(2) == 8


def test_the_best_words_are_found(prompting):
    weights, stream = prompting.initial(), generator(3)
    velocity = torch.zeros_like(weights)
    estimator = PolicyGradient(Taste(), 2, 4, 64)
    for k in range(1, 201):
        ask = prompting.about(EXAMPLES.images)
        estimate, _ = estimator.estimate(weights, ask, EXAMPLES, k, stream)
        weights, velocity = look_ahead_step(weights, velocity, estimate.gradient, 0.3, 0.5)
    assert prompting.sentence(weights) == "neon a {}."


def test_impossible_words_are_refused():
    for vocabulary, start in ((WORDS, ("dog",)), (WORDS, ()), (("a", "a"), ("a",))):
        with pytest.raises(ConfigError, match="vocabulary"):
            WordPrompting(("cat",), vocabulary, start)
    with pytest.raises(ConfigError, match="at least 2 draws"):
        PolicyGradient(Taste(), 2, 1, 64)
