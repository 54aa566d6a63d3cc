"""A small federation that every method can train on: three classes, clients of unequal size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.backbone.clip import FrozenCLIP
from pfedmoap.gradients import NoPrivacy
from pfedmoap.method import AnyMethod, ClientData, ClientResult, ClientTask, Setting
from pfedmoap.training import Training
from pfedmoap.types import Arrays, ClientId, Update

torch.set_num_threads(1)  # tensors here are tiny; more threads only wait for each other

CLASSES = ("cat", "a small dog", "boat")
QUICK = {"fedsp": {"distillation_steps": 3}}  # of methods that do much before the first round
SIZES = {ClientId(0): 5, ClientId(1): 3, ClientId(4): 8, ClientId(7): 1}


def make_data(client: ClientId, size: int, dim: int, patches: int = 6) -> ClientData:
    """Random unit-norm features, pixels and tokens with two views of each image."""
    stream = torch.Generator().manual_seed(1000 + client)
    other = torch.Generator().manual_seed(2000 + client)
    return ClientData(
        {
            "image": F.normalize(torch.randn(size, 2, dim, generator=stream), dim=-1),
            "pixels": torch.randn(size, 2, 3, 32, 32, generator=stream),
            "patches": F.normalize(torch.randn(size, 2, patches, dim, generator=stream), dim=-1),
            "tokens": torch.randn(size, 2, 17, 32, generator=other),
            "class_token": F.normalize(torch.randn(size, 2, 32, generator=other), dim=-1),
        },
        torch.randint(len(CLASSES), (size,), generator=stream),
    )


@dataclass(frozen=True)
class Small:
    """Runs rounds of one method by hand, so that a test can look between the steps."""

    method: AnyMethod
    data: Mapping[ClientId, ClientData]

    def tasks(
        self, state: Any, cohort: Sequence[ClientId], round: int, locals: Mapping[ClientId, Arrays]
    ) -> list[ClientTask]:
        """What the clients of a cohort have in hand."""
        return [
            ClientTask(download, locals.get(download.client), self.data[download.client])
            for download in self.method.plan(state, cohort, round)
        ]

    def round(
        self, state: Any, locals: Mapping[ClientId, Arrays], cohort: Sequence[ClientId], round: int
    ) -> tuple[Any, dict[ClientId, Arrays], list[ClientResult]]:
        """One round; returns the new state, all local states, and what the cohort made."""
        results = self.method.train(self.tasks(state, cohort, round, locals), NoPrivacy())
        new = {result.update.client: result.local for result in results}
        updates: list[Update] = [result.update for result in results]
        return self.method.aggregate(state, updates), {**locals, **new}, results

    def rounds(
        self, count: int, cohort: Sequence[ClientId] | None = None
    ) -> tuple[Any, dict[ClientId, Arrays], list[ClientResult]]:
        """The first rounds with one cohort."""
        state, locals, results = self.method.init(), {}, []
        for round in range(1, count + 1):
            state, locals, results = self.round(state, locals, cohort or list(self.data), round)
        return state, locals, results


@pytest.fixture
def quick() -> Mapping[str, Mapping[str, Any]]:
    """Options by method."""
    return QUICK


@pytest.fixture
def setting(clip: FrozenCLIP) -> Setting:
    """Short training with a step that is large enough to tell methods apart."""
    training = Training(epochs=1, batch_size=3, learning_rate=0.02)
    server = make_data(ClientId(99), 4, clip.embed_dim)
    return Setting(clip, CLASSES, training, seed=11, server_data=server)


@pytest.fixture
def data(clip: FrozenCLIP) -> dict[ClientId, ClientData]:
    """Four clients of different sizes with ids that have gaps."""
    return {client: make_data(client, size, clip.embed_dim) for client, size in SIZES.items()}


@pytest.fixture
def small(data: Mapping[ClientId, ClientData]) -> Callable[[AnyMethod], Small]:
    """Put a method on the small federation."""
    return lambda method: Small(method, data)
