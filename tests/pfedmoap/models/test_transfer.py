"""Copies to a device and back, and how many images it is given at once."""

import pytest
import torch

from pfedmoap.models.transfer import Transfer, fitting, images_at_once


def test_results_are_those_of_each_batch_though_more_is_under_way(device):
    """Batch after batch is begun before the last one's result is read, as the encoder does."""
    transfer = Transfer(device)
    batches = [torch.full((64, 256), float(i)) for i in range(6)]
    if transfer.pinned:
        batches = [batch.pin_memory() for batch in batches]
    weight = torch.eye(256, device=device, dtype=torch.bfloat16)

    begun = [
        transfer.back({"double": transfer.there(batch).bfloat16() @ weight * 2})
        for batch in batches
    ]

    for i, on_its_way in enumerate(begun):
        found = on_its_way.wait()["double"]
        assert (found.device.type, found.dtype) == ("cpu", torch.float32)
        assert (found == 2 * i).all()


def test_a_cpu_gets_the_number_that_was_asked_for_and_encodes_nothing_to_find_it():
    size = images_at_once(
        pytest.fail, (3, 8, 8), torch.device("cpu"), at_least=64, most_bytes=2**20
    )
    assert size == 64


@pytest.mark.parametrize(
    ("taken", "free", "expected"),
    [
        (2**20, 2**30, 512),  # half of the memory
        (2**20, 2**40, 4096),  # no more than the host holds
        (0, 2**30, 4096),
        (2**30, 2**30, 64),  # never nothing
        (2**20, 2**28, 128),
        (10**6, 2**28, 128),  # 134 of them fit, in whole multiples of 64
    ],
)
def test_half_of_the_free_memory_is_filled(taken, free, expected):
    assert fitting(taken, free, 2**16, at_least=64, most_bytes=2**28) == expected


@pytest.mark.gpu
def test_a_gpu_is_given_as_many_as_fit():
    device = torch.device("cuda")

    def encode(images):
        return torch.stack([images] * 100).sum()

    size = images_at_once(encode, (3, 64, 64), device, at_least=8, most_bytes=2**26)
    assert size % 8 == 0
    assert 8 < size <= 2**26 // (4 * 3 * 64 * 64)
    encode(torch.zeros(size, 3, 64, 64, device=device))
