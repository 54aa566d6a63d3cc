"""Predictions of every client's models on its test images, from which metrics are computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from eval.pieces import chunks, groups
from eval.tuned_states import TunedStates
from pfedmoap.client.privatizer import NoPrivacy, Privatizer
from pfedmoap.contract.capabilities import (
    CanPersonalise,
    HasOnlyGlobalModel,
    SendsGlobalModel,
)
from pfedmoap.contract.method import AnyMethod, Method
from pfedmoap.contract.predicting import PredictionTask, plan_to_predict, predictions
from pfedmoap.contract.tasks import ClientData, Prediction
from pfedmoap.data.federation import Client, Federation
from pfedmoap.engine.simulation import FederationState
from pfedmoap.errors import MethodError
from pfedmoap.wire.messages import Arrays, ClientId, Download

S = TypeVar("S")

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
NOBODY: frozenset[ClientId] = frozenset()
NO_CLASS = -1


@dataclass(frozen=True)
class Answers:
    """One model's predictions for n images.

    Attributes:
        predicted: The most probable class, (n,); `NO_CLASS` where the model has no answer.
        confidence: Its probability, (n,).
    """

    predicted: IntArray
    confidence: FloatArray


@dataclass(frozen=True)
class GateUse:
    """One client's gate weights of the prompts, for each image's true class.

    Attributes:
        weights: Attention, (n, E); expert 0 is the client's own prompt.
        experts: Whose prompts experts 1 .. E-1 are.
    """

    weights: FloatArray
    experts: tuple[ClientId, ...]


@dataclass(frozen=True)
class ClientPredictions:
    """One client's test labels with its models' predictions.

    Attributes:
        client: The client.
        domain: Its main domain, if there are domains.
        train_images: Size of its training set.
        unseen: Whether it was held out and never took part.
        labels: True classes of its n test images, (n,).
        personal: Predictions of its own model.
        shared: Predictions of the global model; ``None`` without one.
        gate: Its gate's weights; ``None`` if no gate is in use.
    """

    client: ClientId
    domain: str | None
    train_images: int
    unseen: bool
    labels: IntArray
    personal: Answers
    shared: Answers | None
    gate: GateUse | None


def states_for_prediction(
    method: Method[S],
    now: FederationState[S],
    federation: Federation,
    privatizer: Privatizer | None = None,
    unseen: frozenset[ClientId] = NOBODY,
) -> Mapping[ClientId, Arrays | None]:
    """Return what each client predicts with; see `personal_states`.

    Where nobody tunes before inference, that is the clients' own states, of which none is read
    here: those of a run on disk need not fit into memory. Else they are tuned as they are read.

    Args:
        method: The method.
        now: What server and clients know; nothing of it is changed.
        federation: The clients' data.
        privatizer: How a method that tunes before inference forms gradients.
        unseen: Clients that never train, not even before inference.

    Returns:
        The ``local`` argument of `Method.predict`, by client; a client that has none is absent.
    """
    if not isinstance(method, CanPersonalise):
        return now.local_states
    seen = sorted(set(federation.clients) - unseen)
    downloads = method.plan(now.state, seen, now.round + 1)
    data = {client: federation.clients[client].train for client in seen}
    by = privatizer or NoPrivacy()
    return TunedStates(method, downloads, now.local_states, data, by, unseen)


def predict_clients(
    method: Method[S],
    now: FederationState[S],
    local_states: Mapping[ClientId, Arrays | None],
    federation: Federation,
    unseen: frozenset[ClientId] = NOBODY,
    *,
    private: bool = False,
) -> tuple[ClientPredictions, ...]:
    """Classify every client's test images with its models.

    If a method is `HasOnlyGlobalModel`, the global model's predictions serve as both.

    Args:
        method: The method.
        now: What server and clients know; nothing of it is changed.
        local_states: What each client predicts with, from `states_for_prediction`.
        federation: The clients' data.
        unseen: Clients that never took part.
        private: Whether the federation promises differential privacy. A client's own model whose
            output is not finite is then scored as wrong everywhere, in place of an error: that a
            run fails is visible, and would depend on this client's data without any noise.

    Returns:
        One entry for each client, in the order of ids.

    Raises:
        MethodError: A model's answers are not finite, because its training diverged.
    """
    clients = sorted(federation.clients)
    tests = [federation.clients[client].test for client in clients]
    shared = _shared(lambda features: method.predict_global(now.state, features), tests)
    for_both = shared if isinstance(method, HasOnlyGlobalModel) and method.impersonal() else None
    if for_both is None:
        newcomers = frozenset(client for client in clients if _is_new(local_states, client))
        downloads = plan_to_predict(method, now.state, clients, now.round + 1, newcomers)
        personal = _personal(method, downloads, local_states, tests, private)
    else:
        personal = ((answers, None) for answers in for_both)
    found = []
    for row, (client, test, (answers, gate)) in enumerate(
        zip(clients, tests, personal, strict=True)
    ):
        own = federation.clients[client]
        found.append(
            ClientPredictions(
                client=client,
                domain=own.domain,
                train_images=len(own.train),
                unseen=client in unseen,
                labels=test.labels.numpy(),
                personal=answers,
                shared=None if shared is None else shared[row],
                gate=gate,
            )
        )
    return tuple(found)


def predict_client(
    method: AnyMethod, download: Download, local: Arrays | None, own: Client, *, private: bool
) -> ClientPredictions:
    """Classify one client's test images with its models, where nobody has the others'.

    The global model is tested where the client is sent all of it (`SendsGlobalModel`).

    Args:
        method: The method.
        download: What the server would send it now.
        local: What it predicts with; see `personal_states`.
        own: Its data.
        private: See `predict_clients`.
    """
    one = {download.client: local}
    ((personal, gate),) = _personal(method, [download], one, [own.test], private)
    if isinstance(method, HasOnlyGlobalModel) and method.impersonal():
        shared: Answers | None = personal
    else:
        sent = method.predict_sent if isinstance(method, SendsGlobalModel) else _nothing
        tested = _shared(lambda features: sent(download, features), [own.test])
        shared = None if tested is None else tested[0]
    return ClientPredictions(
        client=download.client,
        domain=own.domain,
        train_images=len(own.train),
        unseen=False,
        labels=own.test.labels.numpy(),
        personal=personal,
        shared=shared,
        gate=gate,
    )


def _is_new(local_states: Mapping[ClientId, Arrays | None], client: ClientId) -> bool:
    """Whether a client has no state to predict with; states on disk are not read to see it."""
    if isinstance(local_states, dict):
        return local_states.get(client) is None
    return client not in local_states


def _personal(
    method: Method[S],
    downloads: Sequence[Download],
    local_states: Mapping[ClientId, Arrays | None],
    tests: Sequence[ClientData],
    private: bool,
) -> Iterator[tuple[Answers, GateUse | None]]:
    """Predict with the clients' own models; yields predictions and the gate's weights of each."""

    def tasks() -> Iterator[PredictionTask]:  # some at a time: states may be on disk
        for download, test in zip(downloads, tests, strict=True):
            local = local_states.get(download.client)
            yield from (PredictionTask(download, local, piece) for piece in chunks(test))

    answered = predictions(method, tasks())
    for download, test in zip(downloads, tests, strict=True):
        parts = list(islice(answered, len(chunks(test))))
        logits = torch.cat([part.logits for part in parts])
        try:
            answers = _answers(logits, f"the model of client {download.client}")
        except MethodError:
            if not private:
                raise
            yield _all_wrong(len(logits)), None
            continue
        yield answers, _gate_use(parts, test.labels)


def _nothing(download: Download, features: Arrays) -> None:
    """What a client is sent of the global model by a method that does not say so."""


def _shared(
    predict: Callable[[Arrays], Prediction | None], tests: Sequence[ClientData]
) -> list[Answers] | None:
    """Predict with the global model for several clients at once: its prompt is encoded once."""
    logits: list[list[torch.Tensor]] = [[] for _ in tests]
    for group in groups([(row, part) for row, test in enumerate(tests) for part in chunks(test)]):
        features = {kind: torch.cat([part[kind] for _, part in group]) for kind in group[0][1]}
        prediction = predict(features)
        if prediction is None:
            return None
        sizes = [len(next(iter(part.values()))) for _, part in group]
        for (row, _), piece in zip(group, prediction.logits.split(sizes), strict=True):
            logits[row].append(piece)
    return [_answers(torch.cat(pieces), "the global model") for pieces in logits]


def _answers(logits: torch.Tensor, whose: str) -> Answers:
    """The most probable class of each image and its probability; (n, C) logits."""
    best = logits.detach().cpu().double().softmax(-1).max(-1)
    # Probabilities, not logits, are checked: a logit of -inf rules a class out and is an answer.
    if not bool(best.values.isfinite().all()):
        raise MethodError(
            f"{whose} gives answers that are not finite: its training diverged. Use a smaller "
            "training.learning_rate, or a smaller step size of the method where it has its own "
            "(e.g. method.gate_learning_rate)"
        )
    return Answers(best.indices.numpy().astype(np.int64), best.values.numpy())


def _all_wrong(count: int) -> Answers:
    """Answers of a model that has none: no class, with no confidence."""
    return Answers(np.full(count, NO_CLASS, dtype=np.int64), np.zeros(count))


def _gate_use(parts: Sequence[Prediction], labels: torch.Tensor) -> GateUse | None:
    attention = [part.attention for part in parts if part.attention is not None]
    if not attention:
        return None
    weights = torch.cat(attention).cpu()[torch.arange(len(labels)), labels]  # (n, E)
    return GateUse(weights.double().numpy(), parts[0].experts)
