"""Prompts and a client's steps: ranges, estimates against the white box, budgets."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import Stream
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.methods.fed_bbpt.prompt_generator import PromptGenerator
from pfedmoap.methods.fed_bbpt.prompting import ImagePrompting, Prompting, TextPrompting
from pfedmoap.methods.fed_bbpt.spsa import Gains
from pfedmoap.methods.fed_bbpt.training import Descent, Examples, WhiteBox, ZerothOrder, run_steps
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.interface import Answer, Question, Usage
from pfedmoap.models.blackbox.white_box import WhiteBoxModel
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download

GAINS = Gains()


@pytest.fixture
def image_side(clip, words) -> ImagePrompting:
    return ImagePrompting(PromptGenerator(32, width=8), clip.preprocessing, words)


@pytest.fixture
def text_side(clip, words) -> TextPrompting:
    start = 0.1 * torch.randn(2, clip.text_width, generator=generator(1))
    return TextPrompting(words.class_names, start)


@pytest.fixture
def client() -> ClientData:
    stream = generator(2, "client")
    images = torch.rand(7, 1, 3, 32, 32, generator=stream)
    return ClientData({"pixels": images}, torch.randint(3, (7,), generator=stream))


@dataclass
class Spy:
    """Answers with zeros, and remembers what it was asked."""

    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        return Answer(torch.zeros(len(question.images), 3), Usage(len(question.images), 1))


def run(prompting: Prompting, data: ClientData, estimator, steps=4, left=None, first=1, **more):
    gains, batch_size = more.get("gains", GAINS), more.get("batch_size", 3)
    plan = NoPrivacy().batches([len(data)], 1, [Stream(0, ClientId(0), 1)], steps, batch_size)
    sent = Download(1, ClientId(0), {prompting.name: prompting.initial()})
    done, usage = run_steps(
        Descent(prompting, estimator, gains, momentum=0.9),
        ClientTask(sent, None, data),
        plan,
        range(first, first + steps),
        left,
        generator(3),
        torch.device("cpu"),
    )
    return SimpleNamespace(
        weights=done.params[prompting.name], loss=done.loss, steps=done.steps, usage=usage
    )


def test_prompted_images_stay_in_the_valid_range(clip, image_side, question):
    """The range is that of pixels in [0, 1] after the model's normalisation, channel by channel."""
    weights = image_side.initial() + torch.randn(image_side.parameters, generator=generator(1))
    shown = image_side.about(question.images)(weights).images
    preprocessing = clip.preprocessing
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    pixels = shown * std + mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert not torch.equal(shown, question.images.clamp(shown.min(), shown.max()))


def test_training_starts_from_the_images_as_they_are(image_side):
    images = torch.rand(4, 3, 32, 32) - 0.5
    assert torch.equal(image_side.about(images)(image_side.initial()).images, images)


def test_text_side_sends_its_context(text_side, question):
    asked = text_side.about(question.images)(text_side.initial() + 1)
    assert torch.equal(asked.images, question.images)
    assert torch.equal(asked.text.context, text_side.start + 1)


@pytest.mark.parametrize("side", ["image", "text"])
def test_estimates_correlate_with_the_white_box(clip, side, image_side, text_side, question):
    """The minimum: the average over many draws points where the true gradient points."""
    prompting: Prompting = image_side if side == "image" else text_side
    weights = prompting.initial()
    if side == "image":  # away from the start, where only the last layer has a gradient
        weights = weights + 0.1 * torch.randn(weights.shape, generator=generator(1))
    labels = torch.tensor([0, 1, 2, 0, 1])
    examples = Examples(question.images, labels, torch.full((5,), 0.2))
    ask = prompting.about(question.images)
    true, _ = WhiteBox(WhiteBoxModel(clip)).estimate(weights, ask, examples, 1, generator(2))
    gains = Gains(probe=0.002)
    estimator = ZerothOrder(InProcessModel(clip), gains, draws=200, images_per_call=64)
    found, usage = estimator.estimate(weights, ask, examples, 1, generator(2))
    assert usage.queries == 2 * 200 * 5 == estimator.queries(5)
    chance = (len(weights)) ** -0.5
    correlation = float(F.cosine_similarity(found.gradient, true.gradient, dim=0))
    assert correlation > 6 * chance
    assert correlation > 0.2
    assert found.loss == pytest.approx(true.loss, rel=0.05)


def test_queries_are_those_of_the_plan(image_side, client):
    """7 examples in batches of 3, 3 and 1: padding is not paid for, nor asked about."""
    spy = Spy()
    done = run(image_side, client, ZerothOrder(spy, GAINS, draws=2, images_per_call=2))
    expected = 2 * 2 * (3 + 3 + 1 + 3)
    assert done.steps == 4
    assert done.usage.queries == expected == sum(len(asked.images) for asked in spy.asked)
    assert done.usage.calls == len(spy.asked) == 2 * 2 * (2 + 2 + 1 + 2)


@pytest.mark.parametrize(("left", "steps"), [(0, 0), (11, 0), (12, 1), (27, 2), (28, 3), (99, 4)])
def test_a_step_that_would_overdraw_the_budget_is_not_begun(image_side, client, left, steps):
    spy = Spy()
    estimator = ZerothOrder(spy, GAINS, draws=2, images_per_call=64)
    done = run(image_side, client, estimator, left=left)
    assert done.steps == steps
    assert done.usage.queries == sum(len(asked.images) for asked in spy.asked) <= left


def test_steps_before_the_budget_ends_are_those_without_one(clip, image_side, client):
    estimator = ZerothOrder(InProcessModel(clip), GAINS, draws=1, images_per_call=64)
    short = run(image_side, client, estimator, steps=2)
    cut = run(image_side, client, estimator, steps=4, left=short.usage.queries)
    assert cut.steps == 2
    assert torch.equal(cut.weights, short.weights)


def test_gain_index_goes_on_where_the_last_round_ended(clip, image_side, client):
    """Pitfall (b): k is the federation's; with a later first step, steps and probes shrink."""
    estimator = ZerothOrder(InProcessModel(clip), GAINS, draws=1, images_per_call=64)
    start = image_side.initial()
    early = (run(image_side, client, estimator, steps=1).weights - start).norm()
    late = (run(image_side, client, estimator, steps=1, first=1000).weights - start).norm()
    ratio = GAINS.step_size(1000) / GAINS.step_size(1)
    assert float(late / early) == pytest.approx(ratio, rel=0.3)


def test_white_box_descends_without_a_query(clip, image_side, client):
    gains = Gains(step=0.05)
    estimator = WhiteBox(WhiteBoxModel(clip))
    done = run(image_side, client, estimator, steps=30, left=0, gains=gains, batch_size=7)
    ask = image_side.about(client.features["pixels"][:, 0])
    whole = Examples(client.features["pixels"][:, 0], client.labels, torch.full((7,), 1 / 7))
    model = InProcessModel(clip)

    def loss(weights: torch.Tensor) -> float:
        return float(whole.loss(model.ask(ask(weights)).logits))

    assert done.usage == Usage()
    assert loss(done.weights) < 0.8 * loss(image_side.initial())
    assert not done.weights.requires_grad
