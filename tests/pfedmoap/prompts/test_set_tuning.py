"""The loss of a prompt set, its elements, and what one image may know of another."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import Batch
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.problem import BatchWide
from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.prompts.set_elements import PROMPTS, TextContexts, VisualTokens
from pfedmoap.prompts.set_selection import Selection
from pfedmoap.prompts.set_tuning import PromptSetProblem, PromptSets, SetOptions, moved_rows
from pfedmoap.prompts.tuning import template_features
from privacy.mechanisms.per_example import per_example_gradients
from tests.helpers.models import tiny_clip

CLASSES = ("cat", "a small dog", "boat")
CLIENTS, IMAGES = 2, 4


@pytest.fixture(scope="module")
def setting(clip) -> Setting:
    return Setting(clip, CLASSES, Training(), seed=3)


@pytest.fixture(scope="module")
def features(clip) -> dict[str, torch.Tensor]:
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = clip.features(images, ("image", "tokens", "class_token"))
    return {kind: value.unflatten(0, (CLIENTS, IMAGES)) for kind, value in found.items()}


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])


ELEMENTS = {
    "visual": lambda setting: VisualTokens(setting),
    "visual, all trained": lambda setting: VisualTokens(
        setting, head="trained", projection=True, hidden=8
    ),
    "text": lambda setting: TextContexts(setting, length=3),
}


def start(elements, count: int = 5) -> dict[str, torch.Tensor]:
    return {
        name: torch.stack([value, value + 0.1 * torch.randn(value.shape)])
        for name, value in elements.initial(count).items()
    }


@pytest.mark.parametrize("kind", ELEMENTS)
def test_loss_is_cross_entropy_plus_the_similarity_of_the_chosen(kind, setting, features, labels):
    """Pitfall: the sign is a plus, opposite to L2P's."""
    elements = ELEMENTS[kind](setting)
    params = start(elements)
    plain = PromptSetProblem(elements, Selection("sample", 2), 0.0)
    problem = replace(plain, similarity_weight=0.5)
    shared = elements.represent(params)
    keys = F.normalize(elements.keys(params, shared), dim=-1)
    query = F.normalize(elements.queries(params, features), dim=-1)
    nearest = torch.einsum("kbq,knq->kbn", query, keys).topk(2).values.sum(-1)
    assert torch.allclose(
        problem.losses(params, shared, features, labels),
        plain.losses(params, shared, features, labels) + 0.5 * nearest,
        atol=1e-5,
    )


def test_visual_logits_are_those_of_the_prompted_tower(setting, features):
    elements = VisualTokens(setting)
    params = start(elements)
    chosen = torch.tensor([0, 3]).expand(CLIENTS, IMAGES, 2)
    logits = elements.logits(params, {}, features, chosen)
    see, text = setting.backbone.prompted_vision(), template_features(setting)
    for client in range(CLIENTS):
        prompts = params[PROMPTS][client, [0, 3]].expand(IMAGES, -1, -1)
        image = see(features["tokens"][client], prompts)
        expected = setting.backbone.logit_scale * image @ text.T
        assert torch.allclose(logits[client], expected, atol=1e-4)


def test_text_logits_are_the_mean_over_the_chosen_contexts(setting, features):
    elements = TextContexts(setting, length=3)
    params = start(elements)
    chosen = torch.tensor([1, 4]).expand(CLIENTS, IMAGES, 2)
    logits = elements.logits(params, elements.represent(params), features, chosen)
    encode = setting.backbone.prompt_encoder(CLASSES, 3)
    for client in range(CLIENTS):
        each = [
            features["image"][client] @ encode(params[PROMPTS][client, i][None])[0].T
            for i in (1, 4)
        ]
        expected = setting.backbone.logit_scale * (each[0] + each[1]) / 2
        assert torch.allclose(logits[client], expected, atol=1e-4)


def test_a_training_batch_shares_its_elected_prompts(setting, features, labels):
    elements = VisualTokens(setting)
    problem = PromptSetProblem(elements, Selection("batch", 2), 0.01)
    assert isinstance(problem, BatchWide)
    params = start(elements, 20)
    gradients, _ = NoPrivacy().gradients(problem, params, batch_of(features, labels))
    touched = gradients[PROMPTS].flatten(2).abs().sum(-1) > 0
    assert touched.sum(1).tolist() == [2, 2]


def batch_of(features, labels, weight=None) -> Batch:
    weight = torch.full(labels.shape, 1 / IMAGES) if weight is None else weight
    return Batch(features, labels, weight, ())


def test_padding_changes_nothing(setting, features, labels):
    elements = VisualTokens(setting)
    problem = PromptSetProblem(elements, Selection("batch", 2), 0.01)
    params = start(elements)
    weight = torch.full(labels.shape, 1 / 3)
    weight[:, 3] = 0
    padded, _ = NoPrivacy().gradients(problem, params, batch_of(features, labels, weight))
    three = {kind: value[:, :3] for kind, value in features.items()}
    plain, _ = NoPrivacy().gradients(problem, params, batch_of(three, labels[:, :3], weight[:, :3]))
    assert torch.allclose(padded[PROMPTS], plain[PROMPTS], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [  # where all are trained, something is compared, and images choose
        (kind, rule)
        for kind in ELEMENTS
        for rule in ("sample", "all")
        if (kind, rule) != ("visual, all trained", "all")
    ],
)
def test_per_example_gradients_are_exact_where_images_choose_for_themselves(
    kind, rule, setting, features, labels
):
    elements = ELEMENTS[kind](setting)
    problem, params = PromptSetProblem(elements, Selection(rule, 2), 0.5), start(elements)
    (found, _), *rest = per_example_gradients(problem, params, batch_of(features, labels), 2**30)
    assert not rest
    for image in range(IMAGES):
        weight = torch.zeros(labels.shape)
        weight[:, image] = 1
        truth, _ = NoPrivacy().gradients(problem, params, batch_of(features, labels, weight))
        for name, value in truth.items():
            assert torch.allclose(found[name][:, image], value, atol=1e-4), name


def test_only_a_vote_stands_in_the_way_of_private_steps(setting):
    def gap(rule):
        return PromptSets.make(setting, SetOptions(selection=rule, chosen=2)).privacy_gap("joint")

    assert "vote" in (gap("batch") or "")
    assert gap("sample") is None
    assert gap("all") is None
    with pytest.raises(ConfigError, match="no use for a projection"):
        SetOptions(selection="all", projection=True)
    with pytest.raises(ConfigError, match="modality 'visual'"):
        SetOptions(modality="text", head="trained")


def test_a_resnet_takes_text_contexts_and_refuses_tokens_before_any_work():
    clip: FrozenCLIP = tiny_clip("resnet")
    setting = Setting(clip, CLASSES, Training(), seed=3)
    options = SetOptions(initial="random", selection="batch", chosen=2, optimiser="sgd")
    with pytest.raises(BackboneError, match="ModifiedResNet"):
        PromptSets.make(setting, options)
    sets = PromptSets.make(setting, replace(options, modality="text", context_length=3))
    image = F.normalize(torch.randn(300, clip.embed_dim), dim=-1)
    prediction = sets.classify(sets.elements.initial(4), {"image": image})
    assert prediction.logits.shape == (300, 3)


def test_tokens_start_around_the_class_token_or_zero(setting, features):
    token = features["tokens"][0, 0, 0]
    assert torch.allclose(setting.backbone.prompted_vision().class_token, token, atol=1e-6)
    side = setting.backbone.prompted_vision().patch_size
    assert side == setting.backbone.model.visual.conv1.stride[0]
    released = (6 / (3 * side**2 + len(token))) ** 0.5 / 3**0.5  # of a uniform distribution
    for initial, centre, std in (("class_token", token, 0.5), ("random", 0 * token, released)):
        off = VisualTokens(setting, initial).initial(200)[PROMPTS] - centre
        assert off.mean().abs() < 0.02
        assert abs(off.std() - std) < 0.02


def test_text_contexts_may_start_from_words(setting):
    elements = TextContexts(setting, length=3, words="a photo of")
    drawn = elements.initial(4)[PROMPTS]
    words = setting.backbone.embed_words("a photo of")
    assert drawn.shape == (4, *words.shape)
    assert 0 < (drawn - words).abs().max() < 0.1


def test_moved_rows_are_those_with_any_change():
    before = torch.zeros(3, 2, 2)
    after = before.clone()
    after[1, 1, 0] = 1e-9
    assert moved_rows(before, after).tolist() == [False, True, False]
