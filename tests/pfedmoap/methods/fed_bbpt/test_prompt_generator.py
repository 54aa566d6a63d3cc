"""The prompt generator: sizes, start, and normalisation that has no memory."""

import pytest
import torch

from pfedmoap.errors import ConfigError, ShapeError
from pfedmoap.methods.fed_bbpt.prompt_generator import PromptGenerator
from pfedmoap.methods.fed_bbpt.random_encoder import RandomEncoder
from pfedmoap.seeding import generator

NORMALISATIONS = ("group", "frozen-batch")


def trained(make: PromptGenerator) -> torch.Tensor:
    initial = make.initial()
    return initial + 0.1 * torch.randn(initial.shape, generator=generator(3))


def features(make: PromptGenerator, count: int = 4) -> torch.Tensor:
    return torch.randn(count, make.feature_size, generator=generator(4))


@pytest.mark.parametrize("size", [32, 48, 224])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_prompts_have_the_size_of_the_image(size, normalisation):
    make = PromptGenerator(size, width=8, normalisation=normalisation)
    prompts = make(trained(make), features(make))
    assert prompts.shape == (4, 3, size, size)
    assert prompts.isfinite().all()
    assert prompts.std() > 0


def test_default_has_the_papers_layers():
    make = PromptGenerator(224)
    assert make.side == 7
    assert make.shapes["trigger"] == (784,)  # the paper's 768 features leave 800
    channels = [make.shapes[f"pointwise{stage}"][:2] for stage in range(5)]
    assert channels == [(64, 32), (32, 64), (32, 32), (16, 32), (3, 16)]
    depthwise = 16 * (32 + 64 + 32 + 32 + 16)
    pointwise = 32 * 64 + 64 * 32 + 32 * 32 + 32 * 16 + 16 * 3
    norms = 2 * (64 + 32 + 32 + 16)
    assert make.parameters == 784 + depthwise + pointwise + norms + 3 == 9571
    assert PromptGenerator(32).parameters == 9571 - 784 + 16


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_first_prompt_is_none_at_all(normalisation):
    make = PromptGenerator(32, width=8, normalisation=normalisation)
    assert not make(make.initial(), features(make)).any()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_no_statistics_remember_what_went_through(normalisation):
    """Pitfall (a): with running statistics, perturbed passes would change the later ones."""
    make = PromptGenerator(32, width=8, normalisation=normalisation)
    weights, given = trained(make), features(make)
    before = make(weights, given)
    for step in range(5):
        make(weights + step, 100 * given + 7)
    assert torch.equal(before, make(weights, given))
    assert torch.equal(before, PromptGenerator(32, 8, normalisation)(weights, given))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_prompts_depend_on_their_own_image_alone(normalisation):
    make = PromptGenerator(32, width=8, normalisation=normalisation)
    weights, given = trained(make), features(make)
    together = make(weights, given)
    assert not torch.allclose(together[0], together[1])
    for row in range(len(given)):
        assert torch.allclose(together[row : row + 1], make(weights, given[row : row + 1]))


def test_frozen_statistics_standardise_what_they_were_measured_on():
    make = PromptGenerator(32, width=8, normalisation="frozen-batch")
    weights, given = trained(make), features(make, 64)
    frozen, grouped = make(weights, given), PromptGenerator(32, width=8)(weights, given)
    assert not torch.allclose(frozen, grouped)
    assert 0.1 < float(frozen.std() / grouped.std()) < 10


def test_parameters_come_from_the_seed():
    assert torch.equal(PromptGenerator(32).initial(), PromptGenerator(32).initial())
    assert not torch.equal(PromptGenerator(32).initial(), PromptGenerator(32, seed=1).initial())
    trigger = PromptGenerator(224).initial()[:784]
    assert 0 <= trigger.min() < trigger.max() < 0.1


def test_wrong_sizes_are_refused():
    make = PromptGenerator(32, width=8)
    with pytest.raises(ShapeError, match="expected"):
        make(make.initial()[:-1], features(make))
    with pytest.raises(ShapeError, match="expected"):
        make(make.initial(), torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="width"):
        PromptGenerator(32, width=12)
    unknown = PromptGenerator(32, width=8, normalisation="batch")
    with pytest.raises(ConfigError, match="normalisation"):
        unknown(make.initial(), features(make))


@pytest.mark.parametrize("size", [32, 224])
def test_encoder_is_fixed_and_tells_images_apart(size):
    images = torch.randn(3, 3, size, size, generator=generator(5))
    encode = RandomEncoder(16, seed=2)
    found = encode(images)
    assert found.shape == (3, 16)
    assert torch.equal(found, RandomEncoder(16, seed=2)(images))
    assert torch.allclose(found.mean(1), torch.zeros(3), atol=1e-6)
    assert (found[0] - found[1]).norm() > 0.05
    assert not torch.allclose(found, RandomEncoder(16, seed=3)(images))
    assert torch.allclose(found[1:2], encode(images[1:2]), atol=1e-6)
