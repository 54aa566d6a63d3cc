"""The cohort loop against one client at a time with PyTorch's own optimiser."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.batches import Stream, shuffled_epochs
from pfedmoap.client.local_training import Stepping, Training, float32_products, train_locally
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.stacking import client_batches, cohort_of
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.errors import ConfigError
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import ClientId, Download
from tests.helpers.models import CLASS_NAMES, random_data, rounding, tiny_clip

TRAINING = Training(epochs=3, batch_size=4, learning_rate=0.05)


def tasks_of(data, context):
    return [
        ClientTask(Download(1, client, {"context": context}), None, own)
        for client, own in data.items()
    ]


def train_cohort(clip, data, context, training=TRAINING, round=1):
    tasks = tasks_of(data, context)
    encoder = clip.prompt_encoder(CLASS_NAMES, len(context))
    trained = train_locally(
        PromptProblem(encoder, clip.logit_scale),
        {"context": context.expand(len(tasks), -1, -1)},
        replace(
            cohort_of(tasks, 0, clip.device),
            streams=tuple(Stream(0, client, round) for client in data),
        ),
        Stepping(training, {"context": training.learning_rate}, NoPrivacy()),
    )
    return dict(zip(data, trained.params["context"], strict=True)), trained.loss


def train_alone(clip, client, own, context, training=TRAINING):
    """The obvious slow way: torch.optim.SGD, one batch after the other, 77-token style encoding."""
    prompt = context.clone().requires_grad_()
    encoder = clip.prompt_encoder(CLASS_NAMES, len(context), shared_prefix=False)
    optimiser = torch.optim.SGD(
        [prompt],
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    plan = shuffled_epochs(
        [len(own)], 1, [Stream(0, client, 1)], training.epochs, training.batch_size
    )
    for index, weight in zip(plan.index[:, 0], plan.weight[:, 0], strict=True):
        chosen = index[weight > 0]
        text = encoder(prompt[None])[0]
        image, labels = own.features["image"][chosen, 0], own.labels[chosen]
        logits = cosine_logits(image.to(clip.device), text, clip.logit_scale)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels.to(clip.device)).backward()
        optimiser.step()
    return prompt.detach()


def test_cohort_equals_one_client_at_a_time_with_torch_sgd(device):
    clip, data = tiny_clip(device=device), random_data([3, 9, 1, 14])
    context = (0.02 * torch.randn(4, 32)).to(device)
    together, _ = train_cohort(clip, data, context)
    for client, own in data.items():
        alone = train_alone(clip, client, own, context)
        torch.testing.assert_close(together[client], alone, rtol=0, atol=rounding(device))


def test_momentum_leak_a_client_does_not_feel_its_neighbours(clip):
    data = random_data([5, 9, 7])
    context = 0.02 * torch.randn(4, 32)
    together, losses = train_cohort(clip, data, context)
    for position, client in enumerate(data):
        alone, loss = train_cohort(clip, {client: data[client]}, context)
        torch.testing.assert_close(together[client], alone[client], rtol=0, atol=1e-5)
        assert float(loss[0]) == pytest.approx(float(losses[position]), abs=1e-4)


def test_order_of_clients_changes_nothing(clip):
    data = random_data([5, 9, 7])
    context = 0.02 * torch.randn(4, 32)
    forward, _ = train_cohort(clip, data, context)
    backward, _ = train_cohort(clip, dict(reversed(data.items())), context)
    for client in data:
        torch.testing.assert_close(forward[client], backward[client], rtol=0, atol=1e-5)


def test_training_lowers_the_loss(clip):
    data = random_data([12])
    context = 0.02 * torch.randn(4, 32)
    _, short = train_cohort(clip, data, context, Training(epochs=1, batch_size=4))
    longer = Training(epochs=40, batch_size=4, learning_rate=0.05)
    _, long = train_cohort(clip, data, context, longer)
    assert float(long) < 0.7 * float(short)


def test_client_batches_group_by_key_and_sort_by_id():
    data = random_data([1, 1, 1, 1, 1])
    tasks = list(reversed(tasks_of(data, torch.zeros(1, 1))))
    batches = client_batches(tasks, 2, key=lambda task: task.download.client % 2)
    found = sorted([task.download.client for task in batch] for batch in batches)
    assert found == [[0, 2], [1, 3], [4]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"clients_per_batch": 0},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        Training(**wrong)


def test_streams_differ_by_client_and_round_but_not_by_company():
    def order(client, round):
        stream = Stream(0, ClientId(client), round)
        return shuffled_epochs([9], 1, [stream], 1, 9).index.flatten().tolist()

    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)
    both = shuffled_epochs([9, 9], 1, [Stream(0, ClientId(c), 1) for c in (0, 1)], 1, 9)
    assert both.index[0, 1].tolist() == order(1, 1)


def test_tf32_is_in_force_while_it_is_asked_for():
    device = torch.device("cuda")
    """The setting is torch's own, and can be read without a GPU."""
    before = torch.get_float32_matmul_precision()
    with float32_products(True, device):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    with float32_products(False, device):
        assert torch.get_float32_matmul_precision() == before
