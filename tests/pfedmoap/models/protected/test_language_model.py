"""The protected language model and its auxiliary: what is computed, and from what."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedsp.distillation import Distillation, distil
from pfedmoap.models.language.question import Question
from pfedmoap.models.language.scoring import ABSENT, ANSWER, TOKENS, right_choices
from pfedmoap.models.protected.interface import Protection, draw_prefix
from pfedmoap.models.protected.language_model import AuxiliaryLM, ProtectedLM
from tests.helpers.language_models import FAMILIES, make_lm

pytest.importorskip("transformers")

QUESTIONS = (
    Question("what is green?", ("the grass", "sky")),
    Question("what colour is the sky?", ("red", "the blue", "no")),
    Question("fire", ("is red .", "is what colour", "green")),
)
LABELS = torch.tensor([0, 1, 0])


def protected(family: str = "gpt2", shape="looped", blocks: int = 1, **more) -> ProtectedLM:
    return ProtectedLM(
        make_lm(family, **more), Protection("both", "text", 3, shape, blocks, 16), seed=0
    )


def features(model: ProtectedLM, clients: int = 1):
    encoded = model.backbone.encode(QUESTIONS, 3)
    return {kind: value.expand(clients, -1, -1, -1) for kind, value in encoded.items()}


def prefixes(model: ProtectedLM, clients: int = 1):
    return {
        "text": torch.stack(
            [draw_prefix(model.prefix_shapes, 0.5, k)["text"] for k in range(clients)]
        )
    }


def stacked(model: ProtectedLM, clients: int = 1):
    return {
        name: torch.stack([value * (1 + 0.1 * k) for k in range(clients)])
        for name, value in model.first_weights().items()
    }


def plain_scores(lm, question: Question) -> list[float]:
    """The slow truth: one sequence at a time through the model's own forward, no prefix."""
    scores = []
    for choice in question.choices:
        ids = lm.token_ids(f"{question.prompt} {choice}")
        start = len(lm.token_ids(question.prompt))
        chances = lm.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scores.append(sum(float(chances[i - 1, ids[i]]) for i in range(start, len(ids))))
    return scores


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_model_s_own_log_likelihoods(family):
    model = ProtectedLM(make_lm(family), Protection("both", "text", 0, "looped", 1, 16), seed=0)
    prefix, seen = prefixes(model), features(model)
    with torch.no_grad():
        logits = model.logits(prefix, model.represent(prefix), seen)
        losses = model.losses(prefix, {}, seen, LABELS[None])
    assert logits.shape == (1, 3, 3)
    assert logits[0, 0, 2] == ABSENT
    assert logits.softmax(-1).isfinite().all()
    for i, question in enumerate(QUESTIONS):
        scores = plain_scores(model.backbone, question)
        torch.testing.assert_close(logits[0, i, : len(scores)], torch.tensor(scores))
        right = question.choices[int(LABELS[i])]
        torch.testing.assert_close(
            float(losses[0, i]), -scores[int(LABELS[i])] / len(right.split()), rtol=1e-4, atol=1e-5
        )


def test_many_questions_are_scored_in_parts_with_the_same_result(monkeypatch):
    model = protected()
    prefix, seen = prefixes(model), features(model)
    with torch.no_grad():
        expected = model.logits(prefix, {}, seen)
        monkeypatch.setattr("pfedmoap.models.language.scoring.SEQUENCES_AT_ONCE", 3)
        torch.testing.assert_close(model.logits(prefix, {}, seen), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", ["looped", "dropped"])
def test_an_auxiliary_that_leaves_nothing_out_is_the_whole_model(family, shape):
    model = protected(family, shape, blocks=4)
    weights, prefix, seen = stacked(model), prefixes(model), features(model)
    found = model.auxiliary.logits(weights, prefix, {}, seen)
    torch.testing.assert_close(found, model.logits(prefix, {}, seen))
    assert model.distillation_loss(weights, {k: v[0] for k, v in seen.items()}, 0) < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_a_looped_auxiliary_is_the_model_with_its_first_layer_everywhere(family):
    model, other = protected(family), protected(family)
    layers = other.backbone.model.get_submodule(other.backbone.decoder.layers)
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())
    prefix, seen = prefixes(model), features(model)
    assert model.prefix_shapes == {"text": (4, 2, 3, 8 if family == "llama" else 16)}
    found = model.auxiliary.logits(stacked(model), prefix, {}, seen)
    torch.testing.assert_close(found, other.logits(prefix, {}, seen))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dropped_auxiliary_has_a_prefix_at_the_layers_that_it_keeps_and_no_other(family):
    """Layer 1 and 2 of four are made to do nothing: the rest is then the whole model."""
    model = protected(family, "dropped", blocks=2)
    assert model.prefix_shapes["text"][0] == 2
    for layer in model.backbone.model.get_submodule(model.backbone.decoder.layers)[1:3]:
        for name, value in layer.named_parameters():
            if any(part in name for part in ("c_proj", "out_proj", "fc2", "o_proj", "down_proj")):
                value.zero_()
    prefix, seen = prefixes(model), features(model)
    found = model.auxiliary.logits(stacked(model), prefix, {}, seen)
    torch.testing.assert_close(found, model.logits(prefix, {}, seen))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_named_once_and_tied_embeddings_travel_once(family):
    model = protected(family)
    weights = model.first_weights()
    whole = dict(model.backbone.model.named_parameters())
    assert set(weights) <= set(whole)
    assert ("lm_head.weight" in weights) == (family == "llama")  # the others' are tied
    layers = f"{model.backbone.decoder.layers}."
    numbers = {name[len(layers) :].split(".")[0] for name in weights if name.startswith(layers)}
    assert numbers == {"0"}
    assert all(value.data_ptr() != whole[name].data_ptr() for name, value in weights.items())
    dropped = protected(family, "dropped", blocks=2).first_weights()
    torch.testing.assert_close(
        {n: v for n, v in dropped.items() if n.startswith(f"{layers}1.")},
        {
            n.replace(f"{layers}3.", f"{layers}1."): v
            for n, v in whole.items()
            if n.startswith(f"{layers}3.")
        },
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_auxiliary_s_form_holds_no_weight(family):
    form: AuxiliaryLM = protected(family).auxiliary
    assert all(value.is_meta for value in form.skeleton.form.parameters())
    constants = ("inv_freq", "attn.bias", "attn.masked_bias")  # the last two: older GPT-2 code
    assert all(name.endswith(constants) for name in form.skeleton.constants)


def test_weights_and_prefixes_are_each_client_s_own():
    model = protected()
    weights, prefix, seen = stacked(model, 3), prefixes(model, 3), features(model, 3)
    labels = LABELS.expand(3, -1)
    together = model.auxiliary.losses(weights, prefix, {}, seen, labels)
    assert together.shape == (3, 3)
    assert not torch.allclose(together[0], together[1])
    for k in range(3):
        mine = {name: value[k : k + 1] for name, value in weights.items()}
        one = {"text": prefix["text"][k : k + 1]}
        alone = model.auxiliary.losses(mine, one, {}, features(model), LABELS[None])
        torch.testing.assert_close(alone[0], together[k])


def test_gradients_go_to_the_prefix_on_the_server_and_to_every_weight_on_clients():
    model = protected()
    labels, seen = LABELS.expand(2, -1), features(model, 2)
    prefix = {"text": prefixes(model, 2)["text"].requires_grad_()}
    model.losses(prefix, {}, seen, labels).sum().backward()
    assert prefix["text"].grad.isfinite().all()
    assert (prefix["text"].grad != 0).any((1, 2, 3, 4)).all()
    assert all(value.grad is None for value in model.backbone.model.parameters())
    weights = {name: value.requires_grad_() for name, value in stacked(model, 2).items()}
    loss = model.auxiliary.losses(weights, prefixes(model, 2), {}, seen, labels)
    loss[0].sum().backward()
    for name, value in weights.items():
        assert value.grad is not None, name
        assert not value.grad[1].any(), f"client 0's loss reaches client 1's {name}"
        assert value.grad[0].any() or "k_proj.bias" in name, name


def test_an_example_that_is_padding_costs_nothing_and_breaks_nothing():
    model = protected()
    seen = {kind: F.pad(value, (0, 0, 0, 0, 0, 2)) for kind, value in features(model).items()}
    prefix = {"text": prefixes(model)["text"].requires_grad_()}
    losses = model.losses(prefix, {}, seen, F.pad(LABELS, (0, 2))[None])
    assert losses[0, 3:].tolist() == [0, 0]
    losses.sum().backward()
    assert prefix["text"].grad.isfinite().all()
    short = model.losses(prefix, {}, features(model), LABELS[None])
    torch.testing.assert_close(losses[:, :3], short)


@pytest.mark.parametrize(("family", "shape"), [("gpt2", "looped"), ("llama", "dropped")])
def test_distillation_brings_the_hidden_states_nearer(family, shape):
    model = protected(family, shape)
    encoded = {kind: value[:, None] for kind, value in model.backbone.encode(QUESTIONS, 3).items()}
    options = Distillation(40, batch_size=3, learning_rate=5e-3)
    weights, losses = distil(model, ClientData(encoded, LABELS), options)
    assert losses[-1] < 0.5 * losses[0]
    assert weights.keys() == model.first_weights().keys()
    with pytest.raises(ConfigError, match="server_shots"):
        distil(model, None, options)


def test_distillation_reads_every_choice_at_times_and_no_padding():
    model = protected()
    encoded = model.backbone.encode(QUESTIONS[:1], 3)
    losses = {float(model.distillation_loss(stacked(model), encoded, i)) for i in range(8)}
    assert len(losses) == 2
    wider = {
        TOKENS: F.pad(encoded[TOKENS], (0, 4), value=9),
        ANSWER: F.pad(encoded[ANSWER], (0, 4)),
    }
    assert {float(model.distillation_loss(stacked(model), wider, i)) for i in range(8)} == losses


def test_too_many_blocks_are_refused():
    with pytest.raises(ConfigError, match="between 1 and 4"):
        _ = protected(blocks=5).prefix_shapes


def test_half_precision_serves_a_float32_prefix():
    model = protected()
    model.backbone.model.to(torch.bfloat16)
    prefix = {"text": prefixes(model)["text"].requires_grad_()}
    model.losses(prefix, {}, features(model), LABELS[None]).sum().backward()
    assert prefix["text"].grad.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in model.first_weights().values())


def test_distillation_does_not_count_padding():
    """Two questions of different lengths together: the mean over the tokens of both."""
    model = protected("gpt2")
    weights = stacked(model)
    features = model.backbone.encode(
        [Question("a", ("b", "b")), Question("the red ball and the blue one", ("b", "b"))], 2
    )
    alone = [
        (model.distillation_loss(weights, one, 0), tokens)
        for row in range(2)
        for tokens in [int(right_choices_of(features, row).valid.sum())]
        for one in [{kind: v[row : row + 1] for kind, v in features.items()}]
    ]
    (short, few), (long, many) = alone
    assert few < many
    together = model.distillation_loss(weights, features, 0)
    expected = (few * short + many * long) / (few + many)
    torch.testing.assert_close(together, expected)


def right_choices_of(features, row):
    some = {kind: v[row : row + 1] for kind, v in features.items()}
    return right_choices(some, torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_start_keeps_embedding_and_head(family):
    """They are the paper's to give away, and a random head would never be trained."""
    model = protected(family)
    first = model.first_weights()
    weights, _ = distil(model, None, Distillation(0, start="random"))
    for name, value in first.items():
        assert torch.equal(weights[name], value) != model.is_hidden(name)
