"""One move to the device for each array, however many clients there are."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pfedmoap.client.local_training import Training
from pfedmoap.client.placement import brought_back, copy_into, placed
from pfedmoap.contract.stacking import cohort_of, stack
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import Download
from tests.helpers.models import CLASS_NAMES, random_data

META = torch.device("meta")  # stands in for a device: what is moved there has no values


class Moves(TorchDispatchMode):
    """Counts copies from the host to another device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if str(func) == "aten._to_copy.default" and found.device != args[0].device:
            self.count += 1
        return found


def moves(call) -> int:
    with Moves() as counted:
        call()
    return counted.count


@pytest.mark.parametrize("clients", [2, 7])
def test_moves_do_not_grow_with_the_clients(clip, clients):
    gate = method_class("pfedmoap")(Setting(clip, CLASS_NAMES, Training())).initial_gate
    tasks = [
        ClientTask(Download(1, client, {"context": torch.randn(4, 32)}), None, own)
        for client, own in random_data([4] * clients).items()
    ]
    assert moves(lambda: stack([{**gate, **t.download.arrays} for t in tasks], META)) == 9
    assert moves(lambda: cohort_of(tasks, 0, META)) == 2  # images and labels


def test_a_move_to_where_it_is_moves_nothing():
    value = torch.ones(2)
    assert placed(value, value.device) is value
    assert moves(lambda: placed(value, META)) == 1


def test_a_buffer_takes_values_of_its_shape(device):
    buffer = torch.zeros(3, 2, device=device)
    copy_into(buffer[:2], torch.ones(2, 2))
    assert buffer.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert placed(torch.ones(1), device).device.type == device.type


def test_what_is_brought_back_may_be_overwritten_once_it_is_on_its_way(device):
    values = {"a": torch.arange(4.0, device=device), "b": torch.arange(3, device=device)}
    if device.type == "cuda":
        wait = brought_back(values)
        for value in values.values():
            value.zero_()
        found = wait()
    else:
        found = brought_back(values)()
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [0.0, 1.0, 2.0, 3.0],
        "b": [0, 1, 2],
    }
    assert all(value.device.type == "cpu" for value in found.values())
