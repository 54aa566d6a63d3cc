"""FedRep: own vectors first, shared ones then, against a loop by hand; and what it is good for."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from eval.contract.federation import SmallFederation
from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.tasks import ClientData
from pfedmoap.errors import ConfigError, PrivacyError
from pfedmoap.methods.fedper import FedPer
from pfedmoap.methods.fedrep import FedRep
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.prompts.initial import initial_context
from pfedmoap.wire.messages import ClientId
from privacy.options import DPSGD
from tests.helpers.small_federation import make_data

ME = ClientId(4)


def train_by_hand(setting, parts, name, data, round, epochs):
    """Train one of the two parts with torch's own SGD, the other constant."""
    training = setting.training
    encoder = setting.backbone.prompt_encoder(setting.class_names, 16)
    leaf = parts[name].clone().requires_grad_()
    sgd = torch.optim.SGD(
        [leaf],
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    stream = Stream(setting.seed, ME, round, name)
    plan = shuffled_epochs([len(data)], 2, [stream], epochs, training.batch_size)
    for step in range(len(plan.index)):
        real = plan.weight[step, 0] > 0
        rows, views = plan.index[step, 0][real], plan.view[step, 0][real]
        both = {**parts, name: leaf}
        text = encoder(torch.cat([both["shared"], both["own"]])[None])[0]
        logits = setting.backbone.logit_scale * data.features["image"][rows, views] @ text.T
        sgd.zero_grad()
        F.cross_entropy(logits, data.labels[rows]).backward()
        sgd.step()
    return {**parts, name: leaf.detach()}


def test_one_client_equals_training_the_parts_in_turn_by_hand(small, setting, data):
    longer = replace(setting, training=replace(setting.training, epochs=3))
    method = FedRep(longer, local_vectors=5, shared_epochs=2)
    state, local_states, _ = small(method).rounds(2, [ME])
    start = initial_context(setting.backbone, 16, seed=setting.seed)
    parts = {"shared": start[:11], "own": start[11:]}
    for round in (1, 2):
        parts = train_by_hand(longer, parts, "own", data[ME], round, epochs=3)
        parts = train_by_hand(longer, parts, "shared", data[ME], round, epochs=2)
    assert torch.allclose(state["shared"], parts["shared"], atol=1e-5)
    assert torch.allclose(local_states[ME]["own"], parts["own"], atol=1e-5)
    assert not torch.allclose(state["shared"], start[:11], atol=1e-3)


def test_only_the_shared_vectors_are_uploaded_and_averaged(small, setting):
    world = small(FedRep(setting, local_vectors=5))
    state, local_states, results = world.rounds(2)
    assert all(set(result.update.arrays) == {"shared"} for result in results)
    assert all(set(local) == {"own"} for local in local_states.values())
    sizes = {client: len(data) for client, data in world.data.items()}
    mean = sum(
        result.update.arrays["shared"] * sizes[result.update.client] for result in results
    ) / sum(sizes.values())
    assert torch.allclose(state["shared"], mean, atol=1e-6)


@pytest.mark.parametrize("kind", [PromptFL, FedPer, FedRep])
def test_own_vectors_fit_labels_that_contradict_each_other(kind, setting):
    """One prompt for both clients is right for half of the images; own vectors for two thirds."""
    training = replace(setting.training, epochs=5, learning_rate=0.5, batch_size=12)
    first = make_data(ME, 12, setting.backbone.embed_dim)
    second = ClientData(first.features, (first.labels + 1) % 3)
    data = {ClientId(1): first, ClientId(2): second}
    world = SmallFederation(kind(replace(setting, training=training)), data)
    state, local_states, _ = world.rounds(6)
    found = world.predict(state, local_states)
    right = [found[client].logits.argmax(-1) == data[client].labels for client in data]
    accuracy = float(torch.cat(right).float().mean())
    assert accuracy <= 0.5 if kind is PromptFL else accuracy > 0.65


def test_privacy_covers_uploads_and_no_step(setting):
    method = FedRep(setting)
    assert gap_in_analysis(method, "release") is None
    assert gap_in_analysis(method, "central") is None
    for mode in ("joint", "decoupled"):
        with pytest.raises(PrivacyError, match=r"two sets of steps.*Use `--privacy release`"):
            DPSGD(mode=mode).privatizer(method, None, None)


def test_nonsense_options_are_refused(setting):
    with pytest.raises(
        ConfigError, match=r"method.shared_epochs must be a whole number, at least 1 .*got 0"
    ):
        FedRep(setting, shared_epochs=0)
    with pytest.raises(ConfigError, match="local_vectors"):
        FedRep(setting, local_vectors=16)
