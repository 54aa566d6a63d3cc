"""Answers that are no numbers are reported where they are made, with the client and the remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eval.accuracy import evaluate
from eval.choices import schema
from eval.predictions import predict_client, predict_clients
from eval.running import run_experiment
from pfedmoap.contract.tasks import ClientData, Prediction
from pfedmoap.data.federation import Client, Federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.engine.simulation import FederationState
from pfedmoap.errors import MethodError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import Arrays, ClientId, Download
from tests.helpers.runs import small

NOW: FederationState[None] = FederationState(3, None, {})


class Scripted:
    """An image's feature is its logits: the first row personally, the second globally."""

    def plan(self, state: Any, cohort: Sequence[ClientId], round: int) -> list[Download]:
        return [Download(round, client, {}) for client in sorted(cohort)]

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        return Prediction(features["image"][:, 0])

    def predict_global(self, state: Any, features: Arrays) -> Prediction:
        return Prediction(features["image"][:, 1])


def federation(*logits: torch.Tensor) -> Federation:
    """Clients 0, 1, ... with one view of n images, (n, 2, C) logits each."""
    made = {}
    for i, each in enumerate(logits):
        data = ClientData({"image": each[:, None]}, torch.zeros(len(each), dtype=torch.int64))
        made[ClientId(i)] = Client(data, data, ClientSplit(np.arange(1), np.arange(1)), None)
    dataset: Any = None
    return Federation(dataset, made)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("model", "whose"), [(0, "model of client 1"), (1, "global model")])
def test_answers_that_are_not_finite_name_the_model_and_the_remedy(value, model, whose):
    broken = torch.zeros(4, 2, 3)
    broken[2, model, 1] = value
    method: Any = Scripted()
    with pytest.raises(MethodError, match=rf"{whose}.* not finite.*diverged.*learning_rate"):
        predict_clients(method, NOW, {}, federation(torch.zeros(5, 2, 3), broken))


def test_a_client_alone_answers_as_among_the_others_with_both_models():
    class Sends(Scripted):
        def predict_sent(self, download: Download, features: Arrays) -> Prediction:
            return self.predict_global(None, features)

    everybody = federation(torch.rand(5, 2, 3), torch.rand(3, 2, 3))
    method: Any = Sends()
    together = predict_clients(method, NOW, {}, everybody)
    for one, download in zip(together, method.plan(None, [0, 1], 4), strict=True):
        own = everybody.clients[one.client]
        alone = predict_client(method, download, None, own, private=False)
        for found, expected in ((alone.personal, one.personal), (alone.shared, one.shared)):
            assert found.predicted.tolist() == expected.predicted.tolist()
    silent: Any = Scripted()
    assert predict_client(silent, download, None, own, private=False).shared is None


def test_a_class_that_is_ruled_out_is_an_answer():
    logits = torch.zeros(2, 2, 3)
    logits[..., 0] = -float("inf")
    method: Any = Scripted()
    (one,) = predict_clients(method, NOW, {}, federation(logits))
    assert one.personal.confidence == pytest.approx([0.5, 0.5])


def test_a_diverged_run_names_the_client_and_the_remedy(cache, loader):
    # Each step multiplies the prompt by 1 - 1e9, until float32 overflows.
    training = {"epochs": 8, "learning_rate": 1e9, "weight_decay": 1.0, "batch_size": 32}
    method = {"name": "local_coop", "context_length": 2}
    config = schema().resolve(small(cache, method=method, training=training))
    with pytest.raises(MethodError, match=r"client \d+.*diverged.*training\.learning_rate"):
        run_experiment(loader.prepare(config), None, progress=False)


def test_a_private_evaluation_ends_alike_whatever_a_clients_own_model_answers():
    broken = torch.zeros(4, 2, 3)
    broken[2, 0, 1] = float("nan")
    method: Any = Scripted()
    whole = federation(torch.zeros(5, 2, 3), broken)
    fine, wrong = evaluate(method, NOW, whole, private=True)
    assert fine.accuracy == 1.0
    assert (wrong.accuracy, wrong.macro_f1, wrong.ece, wrong.global_accuracy) == (0, 0, 0, 1)
    broken[2, 1, 1] = float("nan")  # of the server's model, which is public
    with pytest.raises(MethodError, match="global model"):
        evaluate(method, NOW, federation(broken), private=True)


def test_a_private_run_does_not_end_with_a_clients_own_model(cache, loader, tmp_path, monkeypatch):
    """A client with a NaN in what it keeps; only the private part says what became of it."""
    made = method_class("pfedmoap").predict

    def predict(self, download, local, features):
        answer = made(self, download, local, features)
        if download.client != 0 or not diverged:
            return answer
        return replace(answer, logits=answer.logits * float("nan"))

    def one_by_one(self, tasks):
        return (self.predict(task.download, task.local, task.features) for task in tasks)

    monkeypatch.setattr(method_class("pfedmoap"), "predict", predict)
    monkeypatch.setattr(method_class("pfedmoap"), "predict_together", one_by_one)
    public = []
    for diverged in (False, True):
        method = {"name": "pfedmoap", "context_length": 2, "experts": 1}
        privacy = {"name": "release", "insecure_seed": 1}
        config = schema().resolve(small(cache, method=method, privacy=privacy))
        out = tmp_path / str(diverged)
        outcome = run_experiment(loader.prepare(config), out, progress=False)
        assert (outcome.scores[0].accuracy == 0) == diverged
        public.append((out / "metrics.jsonl").read_text())
    assert public[0] == public[1]


class OnDisk(Mapping):
    """States that are read when they are asked for; counts how often."""

    def __init__(self, clients):
        self.clients, self.read = clients, []

    def __getitem__(self, client):
        if client not in self.clients:
            raise KeyError(client)
        self.read.append(client)
        return {}

    def __contains__(self, client):
        return client in self.clients

    def __iter__(self):
        return iter(self.clients)

    def __len__(self):
        return len(self.clients)


def test_states_on_disk_are_read_once_each_and_some_at_a_time(monkeypatch):
    monkeypatch.setattr("pfedmoap.contract.predicting.MODELS", 2)
    method: Any = Scripted()
    states = OnDisk([ClientId(i) for i in (0, 1, 2, 4)])  # client 3 never took part
    held = []
    made = method.predict

    def predict(download, local, features):
        held.append((download.client, len(states.read)))
        assert (local is None) == (download.client == 3)
        return made(download, local, features)

    method.predict = predict
    predict_clients(method, NOW, states, federation(*[torch.zeros(3, 2, 3)] * 5))
    assert states.read == states.clients
    assert all(read <= client + 2 for client, read in held)
