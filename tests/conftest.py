"""Small random models and data that all tests share; nothing here needs a network."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.backbone.clip import FrozenCLIP
from pfedmoap.backbone.tiny import tiny_clip
from pfedmoap.method import ClientData
from pfedmoap.seeding import generator
from pfedmoap.types import ClientId

torch.set_num_threads(1)  # two test processes share two cores

CLASS_NAMES = ("cat", "golden retriever", "hourglass", "aeroplane", "a very long class name")


def random_data(
    sizes: list[int], classes: int = len(CLASS_NAMES), dim: int = 128, views: int = 1
) -> dict[ClientId, ClientData]:
    """Make random unit-norm features and labels for some clients."""
    data = {}
    for i, size in enumerate(sizes):
        stream = generator(7, "random data", i)
        image = F.normalize(torch.randn(size, views, dim, generator=stream), dim=-1)
        labels = torch.randint(0, classes, (size,), generator=stream)
        data[ClientId(i)] = ClientData({"image": image}, labels)
    return data


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip() -> FrozenCLIP:
    return tiny_clip()
