"""Attacks on uploads find what training left there, and nothing where nothing was trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eval.leakage.label_sets import right_guesses
from eval.leakage.membership import Guesses, confidence, guess_members
from eval.leakage.observed import Move, Observed, halves
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download, Update

CLIENT = ClientId(0)
CLASSES, WIDTH = 3, 40


class Linear:
    """A stand-in for prompt tuning: the context is the class features, and learns by heart."""

    setting = SimpleNamespace(
        backbone=SimpleNamespace(device=torch.device("cpu"), logit_scale=10.0),
        class_names=("a", "b", "c"),
    )

    def encoder(self, contexts: torch.Tensor) -> torch.Tensor:
        return F.normalize(contexts, dim=-1)

    def init(self) -> dict[str, torch.Tensor]:
        return {"context": torch.randn(CLASSES, WIDTH, generator=generator(0, "start"))}

    def train(self, tasks, privatizer) -> list[ClientResult]:
        results = []
        for task in tasks:
            context = task.download.arrays["context"].clone()
            for image, label in zip(task.data.view()["image"], task.data.labels, strict=True):
                context[label] += 2 * image
            update = Update(1, task.download.client, {"context": context}, len(task.data))
            results.append(ClientResult(update, {}))
        return results


@pytest.fixture
def trainer() -> Linear:
    return Linear()


def images(name: str, count: int, labels: torch.Tensor | None = None) -> ClientData:
    """Images of unit length with a direction in common."""
    stream = generator(0, name)
    features = F.normalize(torch.randn(count, 1, WIDTH, generator=stream) + 0.3, dim=-1)
    drawn = torch.randint(CLASSES, (count,), generator=stream)
    return ClientData({"image": features}, drawn if labels is None else labels)


def trained_on(trainer: Linear, data: ClientData) -> Move:
    start = trainer.init()["context"]
    task = ClientTask(Download(1, CLIENT, {"context": start}), None, data)
    result = trainer.train([task], NoPrivacy())[0]
    return Move(start, result.update.arrays["context"])


def seen(data: ClientData, move: Move) -> Observed:
    own, others = halves(images("server", 120), seed=0)
    return Observed({CLIENT: [move]}, {CLIENT: data}, own, others)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_client_with_one_class_is_found_out(trainer, label):
    data = images("client", 8, torch.full((8,), label))
    observed = seen(data, trained_on(trainer, data))
    right, made, chance = right_guesses(observed, trainer.encoder, trainer.setting)
    assert (right, made) == (1, 1)
    assert chance == pytest.approx(1 / 3)


def test_memorised_examples_are_told_from_others(trainer):
    data = images("client", 12)
    guesses = guess_members(seen(data, trained_on(trainer, data)), trainer, 4, seed=1)
    assert int(guesses.member.sum()) == 12
    assert len(guesses.member) == 24
    assert all(one.auc > 0.8 for one in guesses.separations().values())


def test_a_prompt_that_did_not_move_tells_nothing(trainer):
    data = images("client", 12)
    start = trainer.init()["context"]
    guesses = guess_members(seen(data, Move(start, start)), trainer, 4, seed=1)
    assert not guesses.difference.any()
    assert guesses.separations()["difference"].auc == 0.5


def test_confidence_is_the_log_odds_of_the_true_class(trainer):
    data = images("client", 5)
    prompt = trainer.init()["context"]
    logits = 10 * data.view()["image"].double() @ F.normalize(prompt.double(), dim=-1).T
    probability = logits.softmax(-1)[torch.arange(5), data.labels]
    expected = torch.log(probability) - torch.log1p(-probability)
    torch.testing.assert_close(confidence(trainer, prompt, data), expected, rtol=1e-4, atol=1e-4)


def test_halves_share_no_example():
    data = images("client", 11)
    first, second = halves(data, seed=2)
    rows = torch.cat([first.features["image"], second.features["image"]]).flatten(1)
    assert (len(first), len(second)) == (5, 6)
    assert len(rows.unique(dim=0)) == 11


def test_guesses_of_several_runs_are_put_together():
    one = Guesses(np.array([1.0]), np.array([2.0]), np.array([True]))
    both = Guesses.joined([one, Guesses(np.array([0.0]), np.array([3.0]), np.array([False]))])
    assert both.separations()["difference"].auc == 1.0
    assert both.separations()["lira"].auc == 0.0
