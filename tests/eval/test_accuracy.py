"""Scores against figures worked out by hand, with a method whose answers are written down."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from eval.accuracy import domain_means, evaluate, macro_f1, record, score, summarise
from eval.pieces import CHUNK
from eval.predictions import predict_clients
from pfedmoap.contract.tasks import ClientData, Prediction
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Client, Federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.engine.simulation import FederationState
from pfedmoap.wire.messages import Arrays, ClientId, Download


class Scripted:
    """The feature of an image is the class it is taken for, personally and globally."""

    trains, features, uploads = True, ("image",), {}

    def plan(self, state: Any, cohort: Sequence[ClientId], round: int) -> list[Download]:
        return [Download(round, client, {}) for client in sorted(cohort)]

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        taken = features["image"][:, 0].long()
        logits = 50 * torch.nn.functional.one_hot(taken, 3).float()
        attention = torch.zeros(len(taken), 3, 2)
        attention[:, :, 0] = torch.tensor([0.1, 0.2, 0.3])
        return Prediction(logits, attention, (ClientId(7),))

    def predict_global(self, state: Any, features: Arrays) -> Prediction:
        taken = features["image"][:, 1].long()
        return Prediction(50 * torch.nn.functional.one_hot(taken, 3).float())


def federation(*clients: tuple[list[int], list[int], list[int]]) -> Federation:
    """Clients of (true labels, personal answers, global answers), in domains a, b, a, b, ..."""
    made = {}
    for i, (labels, personal, shared) in enumerate(clients):
        image = torch.tensor([personal, shared], dtype=torch.float32).T[:, None]
        data = ClientData({"image": image}, torch.tensor(labels))
        split = ClientSplit(np.arange(1), np.arange(1))
        made[ClientId(i)] = Client(data, data, split, "ab"[i % 2])
    empty: Any = None
    dataset: ImageDataset = empty
    return Federation(dataset, made)


ALL = federation(
    ([0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 1, 1]),  # personal 3/4, global 3/4
    ([2, 2], [2, 2], [0, 2]),  # personal 1, global 1/2
    ([0], [1], [1]),  # personal 0, global 0
)
NOW: FederationState[None] = FederationState(3, None, {})


def scores(unseen: frozenset[ClientId] = frozenset()):
    method: Any = Scripted()
    return evaluate(method, NOW, ALL, unseen=unseen)


def test_every_client_is_scored_on_its_own_test_images():
    assert [s.accuracy for s in scores()] == [0.75, 1.0, 0.0]
    assert [s.global_accuracy for s in scores()] == [0.75, 0.5, 0.0]


def test_macro_f1_is_over_the_clients_own_classes():
    # class 0: precision 2/3, recall 1 -> 0.8; class 1: precision 1, recall 1/2 -> 2/3
    assert scores()[0].macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert scores()[1].macro_f1 == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_is_scikit_learns_to_the_last_bit(seed):
    """With classes that are never predicted, ones that no image has, and no answer at all (-1)."""
    stream = np.random.default_rng(seed)
    count, classes = stream.integers(1, 150), stream.integers(1, 90)
    labels = stream.integers(0, classes, count)
    guesses = stream.integers(-1, classes, count)
    predicted = np.where(stream.random(count) < 0.6, labels, guesses)
    present = np.unique(labels)
    expected = f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0)
    assert macro_f1(labels, predicted) == expected


def test_summary_by_hand():
    summary = summarise(scores())
    assert summary.mean == pytest.approx(1.75 / 3)
    assert summary.weighted_mean == pytest.approx(5 / 7)
    assert summary.worst_decile == 0.0
    assert summary.global_mean == pytest.approx(1.25 / 3)
    assert summary.global_union == pytest.approx(4 / 7)
    assert summary.jain == pytest.approx(1.75**2 / (3 * (0.75**2 + 1)))
    assert summary.ece == pytest.approx((0.25 + 0 + 1) / 3)
    assert summary.unseen_mean is None


def test_unseen_clients_are_summarised_apart():
    summary = summarise(scores(frozenset({ClientId(2)})))
    assert (summary.clients, summary.mean, summary.unseen_mean) == (2, 0.875, 0.0)
    assert summary.global_union == pytest.approx(4 / 6)


def test_domain_means_are_over_clients():
    assert domain_means(scores()) == {"a": 0.375, "b": 1.0}
    assert domain_means(scores(frozenset({ClientId(2)}))) == {"a": 0.75, "b": 1.0}


def test_record_holds_each_client():
    assert record(scores())["accuracy"] == {"0": 0.75, "1": 1.0, "2": 0.0}


def test_attention_is_read_at_the_true_class():
    method: Any = Scripted()
    first = predict_clients(method, NOW, {}, ALL)[0]
    assert first.gate is not None
    assert first.gate.experts == (7,)
    assert first.gate.weights[:, 0] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert first.gate.weights.dtype == np.float64


def test_large_and_many_small_test_sets_are_answered_in_order():
    rng = np.random.default_rng(0)
    clients = [
        tuple(rng.integers(0, 3, (3, size)).tolist()) for size in (CHUNK + 5, 1, CHUNK - 1, 2, 700)
    ]
    method: Any = Scripted()
    for one, (labels, personal, shared) in zip(
        score(predict_clients(method, NOW, {}, federation(*clients))), clients, strict=True
    ):
        assert one.accuracy == pytest.approx(np.mean(np.array(labels) == personal))
        assert one.global_accuracy == pytest.approx(np.mean(np.array(labels) == shared))
