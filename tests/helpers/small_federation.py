"""A small federation that every method can train on: three classes, clients of unequal size."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eval.contract.federation import CLASSES, SIZES, SmallFederation, small_setting
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, Setting
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import ClientId

torch.set_num_threads(1)  # tensors here are tiny; more threads only wait for each other

QUICK = {"fedsp": {"distillation_steps": 3}}  # of methods that do much before the first round


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


@pytest.fixture
def quick() -> Mapping[str, Mapping[str, Any]]:
    """Options by method."""
    return QUICK


@pytest.fixture
def setting(clip: FrozenCLIP) -> Setting:
    """Short training with a step that is large enough to tell methods apart."""
    return small_setting(clip, make_data(ClientId(99), 4, clip.embed_dim))


@pytest.fixture
def data(clip: FrozenCLIP) -> dict[ClientId, ClientData]:
    """Four clients of different sizes with ids that have gaps."""
    return {client: make_data(client, size, clip.embed_dim) for client, size in SIZES.items()}


@pytest.fixture
def small(data: Mapping[ClientId, ClientData]) -> Callable[[AnyMethod], SmallFederation]:
    """Put a method on the small federation."""
    return lambda method: SmallFederation(method, data)
