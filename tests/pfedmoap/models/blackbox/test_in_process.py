"""The boundary inside one process: nothing differentiable goes in or comes out."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import BlackBoxError
from pfedmoap.methods.registry import method_class
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.interface import Question, TextPrompt, Usage, ask_in_parts
from pfedmoap.models.blackbox.white_box import WhiteBoxModel


def test_answers_are_zero_shot_logits(clip, question):
    setting = Setting(clip, question.text.class_names, Training(), question.text.templates)
    features = {"image": clip.image_features(question.images)}
    expected = method_class("zero_shot")(setting).predict_global(None, features).logits
    assert torch.allclose(InProcessModel(clip).ask(question).logits, expected, atol=1e-5)


def test_context_takes_the_place_of_templates(clip, question, vectors):
    found = InProcessModel(clip).ask(replace(question, text=vectors)).logits
    text = clip.prompt_encoder(vectors.class_names, 2)(vectors.context[None])[0]
    expected = clip.logit_scale * clip.image_features(question.images) @ text.mT
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_gradient_crosses_the_boundary(clip, question, vectors, enabled, monkeypatch):
    """The backbone runs in inference mode whoever asks, and the answer has no graph."""
    modes = []
    tower = clip.model.visual
    handle = tower.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    images = question.images.clone().requires_grad_()
    text = replace(vectors, context=vectors.context.clone().requires_grad_())
    with torch.set_grad_enabled(enabled):
        answer = InProcessModel(clip).ask(Question(images, text))
    handle.remove()
    assert modes == [True]
    assert not answer.logits.requires_grad
    assert not answer.logits.is_inference()  # usable in anything afterwards
    assert images.grad is None


def test_queries_are_counted_exactly(clip, question):
    model = InProcessModel(clip)
    usage = model.ask(question).usage
    assert usage == Usage(5, 1, question.images.nbytes, 5 * 3 * 4)
    assert usage + usage == Usage(10, 2, 2 * question.images.nbytes, 120)
    parted = ask_in_parts(model, question, 2)
    assert (parted.usage.queries, parted.usage.calls) == (5, 3)
    assert torch.allclose(parted.logits, model.ask(question).logits, atol=1e-4)


def test_white_box_gives_the_same_logits_with_gradients(clip, question, vectors):
    images = question.images.clone().requires_grad_()
    for text in (question.text, vectors):
        open_logits = WhiteBoxModel(clip).logits(Question(images, text))
        closed = InProcessModel(clip).ask(replace(question, text=text)).logits
        assert torch.allclose(open_logits, closed, atol=1e-5)
        (gradient,) = torch.autograd.grad(open_logits[:, 0].sum(), images)
        assert gradient.norm() > 0


def test_texts_are_not_read_as_format_strings(clip, question):
    text = TextPrompt(("cat", "{0.__class__}"), ("a photo of a {}.",))
    assert InProcessModel(clip).ask(replace(question, text=text)).logits.shape == (5, 2)


@pytest.mark.parametrize("shape", [(5, 3, 16, 16), (0, 3, 32, 32), (3, 32, 32)])
def test_wrong_images_are_refused(clip, words, shape):
    with pytest.raises(BlackBoxError, match="expected"):
        InProcessModel(clip).ask(Question(torch.zeros(shape), words))


def test_context_that_does_not_fit_is_refused(clip, question):
    text = TextPrompt(("cat", "dog"), context=torch.zeros(2, 5))
    with pytest.raises(BlackBoxError, match="cannot answer"):
        InProcessModel(clip).ask(replace(question, text=text))


@pytest.mark.parametrize(
    "options",
    [{}, {"templates": ("a {}",), "context": torch.zeros(1, 4)}, {"class_names": ()}],
)
def test_a_question_has_either_templates_or_a_context(options):
    with pytest.raises(BlackBoxError, match="either"):
        TextPrompt(**{"class_names": ("cat",), **options})
