"""A small federation that every method can train on, round by round, in a second or so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, ClientId, Update

CLASSES = ("cat", "a small dog", "boat")
SIZES = {ClientId(0): 5, ClientId(1): 3, ClientId(4): 8, ClientId(7): 1}
"""Clients of unequal size whose ids have gaps; the last one has a single example."""

Locals = dict[ClientId, Arrays]
Outcome = tuple[Any, Locals, list[ClientResult]]
"""After a round: the server's state, clients' local states, and the cohort's results."""


@dataclass(frozen=True)
class SmallFederation:
    """Runs rounds of one method step by step, so that checks can inspect what is exchanged.

    The first rounds with all clients are run once and kept for all checks. A check that needs them
    to be run before its eyes asks `again` for a federation of its own.

    Attributes:
        method: The method.
        data: Training data by client.
    """

    method: AnyMethod
    data: Mapping[ClientId, ClientData]
    _known: list[Outcome] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def clients(self) -> list[ClientId]:
        """All clients, in the order of their ids."""
        return sorted(self.data)

    def again(self, **setting: Any) -> "SmallFederation":  # fields of a Setting
        """Return a copy with a new method object, whose setting may differ."""
        method: Any = self.method  # a dataclass by convention, which the protocol cannot express
        return replace(self, method=replace(method, setting=replace(method.setting, **setting)))

    def tasks(
        self,
        state: Any,
        cohort: Sequence[ClientId],
        round: int,
        local_states: Mapping[ClientId, Arrays],
    ) -> list[ClientTask]:
        """Make the tasks of a cohort."""
        return [
            ClientTask(download, local_states.get(download.client), self.data[download.client])
            for download in self.method.plan(state, cohort, round)
        ]

    def round(
        self,
        state: Any,
        local_states: Mapping[ClientId, Arrays],
        cohort: Sequence[ClientId],
        round: int,
    ) -> Outcome:
        """Run one round; returns the new state, all local states, and the cohort's results."""
        results = self.method.train(self.tasks(state, cohort, round, local_states), NoPrivacy())
        new = {result.update.client: result.local for result in results}
        updates: list[Update] = [result.update for result in results]
        return self.method.aggregate(state, updates), {**local_states, **new}, results

    def rounds(self, count: int, cohort: Sequence[ClientId] | None = None) -> Outcome:
        """Run the first rounds with one cohort, or with all clients."""
        known = self._known if cohort is None else []
        state, local_states, results = known[-1] if known else (self.method.init(), {}, [])
        for round in range(len(known) + 1, count + 1):
            state, local_states, results = self.round(
                state, local_states, cohort or self.clients, round
            )
            known.append((state, local_states, results))
        state, local_states, results = known[count - 1]
        return state, dict(local_states), list(results)

    def predict(
        self, state: Any, local_states: Mapping[ClientId, Arrays]
    ) -> dict[ClientId, Prediction]:
        """Predict every client's own training images."""
        return {
            download.client: self.method.predict(
                download, local_states.get(download.client), self.data[download.client].view()
            )
            for download in self.method.plan(state, self.clients, 9)
        }


def small_setting(backbone: FrozenCLIP, server: ClientData | None) -> Setting:
    """Make a setting with short training and a step size at which methods differ clearly."""
    training = Training(epochs=1, batch_size=3, learning_rate=0.02)
    return Setting(backbone, CLASSES, training, seed=11, server_data=server)


def noise_images(backbone: FrozenCLIP, client: ClientId, size: int) -> ClientData:
    """Labelled noise with two views of each image, by every kind of features of the backbone."""
    stream = generator(3, "contract", client)
    side = backbone.preprocessing.size
    images = torch.randn(2 * size, 3, side, side, generator=stream)
    features = backbone.features(images, backbone.feature_kinds)
    return ClientData(
        {kind: value.cpu().unflatten(0, (size, 2)) for kind, value in features.items()},
        torch.randint(len(CLASSES), (size,), generator=stream),
    )
