"""PromptFL, PromptFL + FT, FedProx, FedPer and local CoOp against hand-written training loops."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.capabilities import personal_states
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedper import FedPer
from pfedmoap.methods.fedprox import FedProx
from pfedmoap.methods.local_coop import LocalCoOp
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.promptfl_ft import PromptFLFineTuned
from pfedmoap.prompts.initial import initial_context
from pfedmoap.wire.messages import ClientId

ME = ClientId(4)


def hand_loop(setting, context, data, client, rounds, *, mu=0.0, seed=None):
    """Train one prompt with torch's own SGD, one example list after the other."""
    training = setting.training
    encoder = setting.backbone.prompt_encoder(setting.class_names, len(context))
    image = data.features["image"]
    context = context.clone()
    for round in rounds:
        anchor = context.clone()
        leaf = context.clone().requires_grad_()
        sgd = torch.optim.SGD(
            [leaf],
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        stream = Stream(setting.seed if seed is None else seed, client, round)
        plan = shuffled_epochs([len(data)], 2, [stream], training.epochs, training.batch_size)
        for step in range(len(plan.index)):
            real = plan.weight[step, 0] > 0
            rows, views = plan.index[step, 0][real], plan.view[step, 0][real]
            logits = setting.backbone.logit_scale * image[rows, views] @ encoder(leaf[None])[0].T
            loss = F.cross_entropy(logits, data.labels[rows])
            loss = loss + mu / 2 * (leaf - anchor).pow(2).sum()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        context = leaf.detach()
    return context


@pytest.fixture
def start(setting):
    return initial_context(setting.backbone, 16, seed=setting.seed)


@pytest.fixture
def longer(setting):
    return replace(setting, training=replace(setting.training, epochs=3))


@pytest.mark.parametrize("make", [PromptFL, lambda setting: FedProx(setting, mu=0.0)])
def test_one_client_equals_plain_training(make, small, longer, data, start):
    state, _, _ = small(make(longer)).rounds(3, [ME])
    truth = hand_loop(longer, start, data[ME], ME, rounds=[1, 2, 3])
    assert torch.allclose(state["context"], truth, atol=1e-5)
    assert not torch.allclose(state["context"], start, atol=1e-3)


def test_local_coop_equals_plain_training_whoever_else_takes_part(small, longer, data, start):
    _, local_states, _ = small(LocalCoOp(longer)).rounds(3)
    for client in data:
        truth = hand_loop(longer, start, data[client], client, rounds=[1, 2, 3])
        assert torch.allclose(local_states[client]["context"], truth, atol=1e-5)


def test_local_coop_sends_nothing_either_way(small, setting):
    world = small(LocalCoOp(setting))
    _, _, results = world.rounds(2)
    assert all(dict(result.update.arrays) == {} for result in results)
    assert all(dict(d.arrays) == {} for d in world.method.plan(None, list(world.data), 1))


def test_fedprox_term_has_a_gradient(small, longer, data, start):
    """A term made of detached tensors, as in the released code, gives PromptFL's result."""
    state, _, _ = small(FedProx(longer, mu=5.0)).rounds(2, [ME])
    truth = hand_loop(longer, start, data[ME], ME, rounds=[1, 2], mu=5.0)
    assert torch.allclose(state["context"], truth, atol=1e-5)
    plain, _, _ = small(PromptFL(longer)).rounds(2, [ME])
    assert not torch.allclose(state["context"], plain["context"], atol=1e-3)


def test_a_strong_pull_keeps_clients_together(small, longer):
    def spread(mu):
        _, _, results = small(FedProx(longer, mu=mu)).rounds(1)
        prompts = torch.stack([result.update.arrays["context"] for result in results])
        return float((prompts - prompts.mean(0)).norm())

    assert spread(20.0) < 0.8 * spread(0.0)


def test_average_is_of_values_not_of_live_references(small, setting, data):
    """In the released code, the average equals the last client's prompt."""
    world = small(PromptFL(setting))
    state, _, results = world.rounds(1)
    weights = torch.tensor([len(data[result.update.client]) for result in results]).double()
    prompts = torch.stack([result.update.arrays["context"].double() for result in results])
    truth = (weights[:, None, None] * prompts).sum(0) / weights.sum()
    assert torch.allclose(state["context"], truth.float(), atol=1e-7)
    for result in results:
        assert not torch.allclose(state["context"], result.update.arrays["context"], atol=1e-4)
        assert state["context"].data_ptr() != result.update.arrays["context"].data_ptr()


def test_uniform_weighting_ignores_sizes(small, setting):
    state, _, results = small(PromptFL(setting, weighting="uniform")).rounds(1)
    mean = torch.stack([result.update.arrays["context"] for result in results]).mean(0)
    assert torch.allclose(state["context"], mean, atol=1e-6)


def test_identical_clients_average_to_each_of_them(small, setting, data):
    """One full batch of one view: the order of examples, which differs, cannot matter."""
    full = replace(setting, training=replace(setting.training, batch_size=8))
    own = data[ME]
    one_view = replace(own, features={"image": own.features["image"][:, :1]})
    world = small(PromptFL(full))
    together, _, _ = replace(world, data=dict.fromkeys(data, one_view)).rounds(1)
    alone, _, _ = replace(world, data={ME: one_view}).rounds(1)
    assert torch.allclose(together["context"], alone["context"], atol=1e-5)


def test_fine_tuned_rounds_are_exactly_promptfls(small, setting):
    plain, _, _ = small(PromptFL(setting)).rounds(2)
    tuned, _, _ = small(PromptFLFineTuned(setting)).rounds(2)
    assert torch.equal(plain["context"], tuned["context"])


def test_fine_tuning_starts_at_the_final_global_prompt_of_everybody(small, setting, data):
    """A client that never took part is tuned too; all start from the last prompt."""
    method = PromptFLFineTuned(setting, fine_tune_epochs=3)
    world = small(method)
    state, local_states, _ = world.rounds(2, [ClientId(0), ClientId(1)])
    tasks = world.tasks(state, list(data), 3, local_states)
    personal = personal_states(method, tasks, NoPrivacy())
    fine = method.fine_tuning.setting
    for client, own in data.items():
        truth = hand_loop(fine, state["context"], own, client, rounds=[3])
        assert torch.allclose(personal[client]["tuned"], truth, atol=1e-5)
    view = data[ME].view()
    tuned = method.predict(tasks[2].download, personal[ME], view).logits
    untuned = method.predict(tasks[2].download, None, view).logits
    assert not torch.allclose(tuned, untuned, atol=1e-3)


def test_fine_tuned_copy_does_not_leak_into_the_next_round(small, setting, data):
    method = PromptFLFineTuned(setting)
    world = small(method)
    state, local_states, _ = world.rounds(1)
    before, _, _ = world.round(state, local_states, list(data), 2)
    personal_states(method, world.tasks(state, list(data), 2, local_states), NoPrivacy())
    after, _, _ = world.round(state, local_states, list(data), 2)
    assert torch.equal(before["context"], after["context"])


def test_fedper_shares_the_first_vectors_and_keeps_the_last(small, setting, start):
    world = small(FedPer(setting, local_vectors=5))
    state, local_states, results = world.rounds(2)
    assert state["shared"].shape == (11, start.shape[1])
    own = torch.stack([local["own"] for local in local_states.values()])
    assert own.shape[1:] == (5, start.shape[1])
    assert float((own - own[0]).norm()) > 1e-3  # personal
    assert all(result.update.arrays["shared"].shape == (11, 32) for result in results)
    mean = sum(
        result.update.arrays["shared"] * len(world.data[result.update.client]) for result in results
    ) / sum(map(len, world.data.values()))
    assert torch.allclose(state["shared"], mean, atol=1e-6)


def test_fedper_of_one_client_equals_plain_training(small, longer, data, start):
    state, local_states, _ = small(FedPer(longer)).rounds(2, [ME])
    truth = hand_loop(longer, start, data[ME], ME, rounds=[1, 2])
    assert torch.allclose(torch.cat([state["shared"], local_states[ME]["own"]]), truth, atol=1e-5)


@pytest.mark.parametrize("vectors", [0, 16, -1])
def test_fedper_refuses_a_part_that_is_nothing_or_everything(setting, vectors):
    with pytest.raises(ConfigError, match="local_vectors"):
        FedPer(setting, local_vectors=vectors)


def test_nonsense_options_are_refused(setting):
    with pytest.raises(ConfigError, match="mu"):
        FedProx(setting, mu=-1)
    with pytest.raises(ConfigError, match="fine_tune_epochs"):
        PromptFLFineTuned(setting, fine_tune_epochs=0)
