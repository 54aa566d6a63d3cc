"""Small random models and data that all tests share; nothing here needs a network."""

import pytest
import torch
from torch.nn import functional as F

from pfedmoap.contract.tasks import ClientData
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.tiny import tiny_clip
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId

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
def same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where torch finds no CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where numerics are checked: on the CPU, and on CUDA too where there is one."""
    return torch.device(request.param)


def rounding(device: torch.device) -> float:
    """What float32 results of two ways to compute the same may differ by, relative to their size.

    CUDA's kernels add in other orders for other shapes, so that two ways differ by more there.
    """
    return 1e-5 if device.type == "cpu" else 1e-4


@pytest.fixture(scope="session")
def clip() -> FrozenCLIP:
    return tiny_clip()
