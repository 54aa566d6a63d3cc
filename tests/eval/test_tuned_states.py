"""Tuning a few clients at a time gives what tuning all at once does, and holds a few."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from eval import tuned_states
from eval.commands.check_method import prepare
from eval.tuned_states import TunedStates
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.capabilities import personal_states
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.methods.promptfl_ft import PromptFLFineTuned
from pfedmoap.wire.messages import ClientId

STRANGER = ClientId(99)


@pytest.fixture
def method(clip):
    setting = prepare("promptfl_ft", {}, clip).method.setting
    training = replace(setting.training, clients_per_batch=2)
    return PromptFLFineTuned(replace(setting, training=training), fine_tune_epochs=1)


def data_of(method, sizes: Sequence[int]) -> dict[ClientId, ClientData]:
    stream = torch.Generator().manual_seed(0)
    width = method.setting.backbone.embed_dim
    return {
        ClientId(client): ClientData(
            {"image": torch.randn(size, 1, width, generator=stream)},
            torch.zeros(size, dtype=torch.int64),
        )
        for client, size in enumerate(sizes)
    }


def test_what_is_tuned_in_groups_is_what_is_tuned_at_once(method, monkeypatch):
    monkeypatch.setattr(tuned_states, "TOGETHER", 3)  # two batches of two clients
    data = data_of(method, [3, 2, 0, 4, 3, 2, 5, 3, 1])
    kept = {ClientId(2): {"old": torch.ones(1)}, ClientId(3): {"old": torch.ones(1)}}
    downloads = method.plan(method.init(), sorted(data), 2)
    tasks = [ClientTask(each, kept.get(each.client), data[each.client]) for each in downloads]
    expected = personal_states(method, tasks, NoPrivacy())
    asked: list[int] = []
    tune = PromptFLFineTuned.personalise

    def counted(self, tasks, privatizer):
        asked.append(len(tasks))
        return tune(self, tasks, privatizer)

    monkeypatch.setattr(PromptFLFineTuned, "personalise", counted)
    found = TunedStates(method, downloads, kept, data, NoPrivacy(), frozenset({STRANGER}))
    assert list(found) == [*sorted(data), STRANGER]
    assert len(found) == len(data) + 1
    assert asked == [], "nothing is tuned before it is asked for"
    for client, states in expected.items():
        with torch.no_grad():  # as where clients are tested
            own = found[client]
        assert own.keys() == states.keys()
        assert all(torch.equal(own[name], array) for name, array in states.items())
    assert asked == [4, 4], "each client once, a few at a time"
    assert found[STRANGER] is None
    assert ClientId(2) in found
    assert STRANGER not in found
    assert found[ClientId(0)] is not None
    assert asked == [4, 4, 4]
    with pytest.raises(KeyError):
        found[ClientId(55)]
