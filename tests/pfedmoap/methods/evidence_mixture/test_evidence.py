"""Evidence for experts against loops over images and experts."""

import math

import pytest
import torch

from pfedmoap.methods.evidence_mixture.evidence import (
    PSEUDO_COUNTS,
    choose_pseudo_count,
    class_counts,
    class_prior,
    likelihoods,
    log_probabilities,
    mix,
    weigh,
    weigh_without_each,
    with_own,
)


@pytest.fixture
def known() -> torch.Tensor:
    """Log-probabilities of 4 classes under 3 experts for 5 images."""
    stream = torch.Generator().manual_seed(2)
    return torch.randn(3, 5, 4, generator=stream).double().log_softmax(-1)


LABELS = torch.tensor([0, 3, 1, 1, 2])


def test_log_probabilities_are_those_of_clips_logits():
    image = torch.tensor([[1.0, 0.0]])
    text = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.8, 0.6]]])
    found = log_probabilities(image, text, scale=2.0)
    assert found.shape == (2, 1, 2)
    assert found[0, 0, 0].item() == pytest.approx(2 - math.log(math.exp(2) + 1))
    assert found[1, 0, 1].item() == pytest.approx(1.6 - math.log(math.exp(1.2) + math.exp(1.6)))


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0])
def test_weights_are_the_tempered_likelihood_of_all_images(known, sharpness):
    losses = [sum(-float(known[e, i, LABELS[i]]) for i in range(5)) for e in range(3)]
    raw = [math.exp(-sharpness * loss) for loss in losses]
    truth = torch.tensor([each / sum(raw) for each in raw], dtype=torch.float64)
    assert torch.allclose(weigh(likelihoods(known, LABELS), sharpness), truth)


def test_an_image_has_no_say_in_the_weights_that_it_is_asked_with(known):
    likelihood = likelihoods(known, LABELS)
    found = weigh_without_each(likelihood, 0.7)
    for image in range(5):
        rest = torch.cat([likelihood[:, :image], likelihood[:, image + 1 :]], dim=1)
        assert torch.allclose(found[:, image], weigh(rest, 0.7))


def test_the_mixture_is_a_distribution_between_its_experts(known):
    weights = torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64)
    found = mix(known, weights).exp()
    assert torch.allclose(found, 0.2 * known[0].exp() + 0.8 * known[2].exp())
    each = weights[:, None].expand(3, 5)
    assert torch.allclose(mix(known, each).exp(), found)


def test_the_own_prompt_counts_as_one_expert_whatever_the_images_say():
    for weights in (torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 0.0, 0.0])):
        found = with_own(weights, own_weight=1.0)
        assert found[0].item() == pytest.approx(1 / 4)
        assert torch.allclose(found[1:], 0.75 * weights)
    assert with_own(torch.ones(1), own_weight=0.0).tolist() == [0.0, 1.0]
    assert with_own(torch.zeros(0), own_weight=0.0).tolist() == [1.0]  # nobody else is there
    assert with_own(torch.zeros(0, 6), own_weight=1.0).tolist() == [[1.0] * 6]


def test_the_prior_counts_labels():
    counts = class_counts(torch.tensor([0, 0, 2]), classes=3)
    prior = class_prior(counts, pseudo_count=0.5).exp()
    assert torch.allclose(prior, torch.tensor([2.5, 0.5, 1.5]) / 4.5)
    even = torch.full((3,), 1 / 3)
    assert torch.allclose(class_prior(counts, 1e9).exp(), even)
    assert torch.allclose(class_prior(torch.zeros(3), 0.01).exp(), even)


def test_counts_are_trusted_where_they_foretell_labels_and_not_where_they_do_not():
    """Two classes again and again, and ten classes once each, under a mixture without opinion."""
    none = torch.zeros(10, 10).log_softmax(-1)
    assert choose_pseudo_count(none, torch.tensor([3, 7] * 5)) == 0.01
    assert choose_pseudo_count(none, torch.arange(10)) == 10.0
    assert choose_pseudo_count(none[:0], torch.arange(0)) == 0.01  # any will do: nothing is counted


def test_the_choice_of_the_pseudo_count_equals_a_loop_over_images():
    stream = torch.Generator().manual_seed(4)
    mixture = torch.randn(6, 4, generator=stream).log_softmax(-1)
    labels = torch.tensor([0, 0, 1, 1, 1, 3])

    def score(count):
        found = -math.log(count) / 2
        for image in range(6):
            rest = torch.cat([labels[:image], labels[image + 1 :]])
            shares = torch.stack([(rest == c).sum() + count for c in range(4)])
            probability = mixture[image].exp() * shares
            found += math.log(probability[labels[image]] / probability.sum())
        return found

    assert choose_pseudo_count(mixture, labels) == max(PSEUDO_COUNTS, key=score)
