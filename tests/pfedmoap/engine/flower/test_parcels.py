"""A batch of clients, and its results, arrive in another process as they were."""

import math
import pickle

import pytest
import torch

from pfedmoap.contract.tasks import ClientResult, ClientTask
from pfedmoap.engine.flower.parcels import (
    Batch,
    data_of_record,
    data_record,
    pack_batch,
    pack_results,
    unpack_batch,
    unpack_results,
)
from pfedmoap.errors import RunError
from pfedmoap.wire.messages import ClientId, Download, Update
from tests.helpers.models import random_data

DATA = random_data([3, 2, 4])
KINDS = {
    "context": torch.randn(2, 3),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 4),
    "half": torch.randn(3).half(),
    "exact": torch.randn(3, dtype=torch.float64),
    "which": torch.tensor([True, False]),
    "ids": torch.tensor([3, 1]),
}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def carried(content):
    return pickle.loads(pickle.dumps(content))  # as Ray carries it


@pytest.mark.parametrize("charged", [None, {ClientId(0): 4, ClientId(1): 0, ClientId(2): 4}])
def test_a_batch_arrives_as_it_was(charged):
    locals_ = [None, {}, KINDS]
    tasks = [
        ClientTask(Download(5, client, {**KINDS, "own": torch.full((1,), client)}), local, own)
        for (client, own), local in zip(DATA.items(), locals_, strict=True)
    ]
    packed = carried(pack_batch(Batch(tasks, charged, silent=True)))
    asked = []
    found = unpack_batch(packed, lambda client: (asked.append(client), DATA[client])[1])
    assert asked == [0, 1, 2]
    assert found.charged == charged
    assert found.silent is True
    for task, before in zip(found.tasks, tasks, strict=True):
        assert (task.download.round, task.download.client) == (5, before.download.client)
        same(task.download.arrays, before.download.arrays)
        assert (task.local is None) == (before.local is None)
        same(task.local or {}, before.local or {})
        assert task.data is before.data


def test_a_batch_holds_nothing_of_the_clients_data():
    client, own = next(iter(DATA.items()))
    task = ClientTask(Download(1, client, {"context": torch.zeros(2)}), None, own)
    raw = pickle.dumps(pack_batch(Batch([task])))
    for values in (*own.features.values(), own.labels):
        assert values.numpy().tobytes() not in raw


def test_results_arrive_as_they_were():
    metrics = {"train_loss": 0.1 + 0.2, "odd": math.nan}
    results = [
        ClientResult(Update(5, ClientId(3), KINDS, 9, metrics), KINDS, {"queries": 4.0}, {}),
        ClientResult(Update(5, ClientId(8), {}, None, {}), {}, {}, {"bill": torch.tensor(7)}),
    ]
    found, clipped = unpack_results(carried(pack_results(results, {ClientId(3): 1 / 3})))
    assert clipped == {ClientId(3): 1 / 3}
    for result, before in zip(found, results, strict=True):
        same(result.update.arrays, before.update.arrays)
        same(result.local, before.local)
        same(result.lasting, before.lasting)
        assert result.costs == before.costs
        assert result.update.num_examples == before.update.num_examples
        assert repr(result.update.metrics) == repr(before.update.metrics)


def test_a_message_that_lacks_an_array_is_refused():
    content = pack_results([ClientResult(Update(1, ClientId(3), KINDS, 9, {}), {})], {})
    del content["3.local"]
    with pytest.raises(RunError, match=r"lacks 3\.local"):
        unpack_results(content)


def test_data_are_only_the_features_that_a_method_needs():
    own = DATA[ClientId(0)]
    more = type(own)({**own.features, "pixels": torch.zeros(3, 1, 2)}, own.labels)
    found = data_of_record(data_record(more, ["image"]))
    same(found.features, own.features)
    assert torch.equal(found.labels, own.labels)
