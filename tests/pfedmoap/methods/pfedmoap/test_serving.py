"""Whose prompts pFedMoAP serves: copies once, far ones not, each to so many; and the log."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.server import PoolOptions
from pfedmoap.contract.tasks import Setting
from pfedmoap.contract.unread_options import refuse_unread_options
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfedmoap.method import PFedMoAP
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId
from tests.helpers.models import CLASS_NAMES, random_data

CLIENTS = [ClientId(i) for i in range(8)]


@pytest.fixture
def setting(clip):
    return Setting(clip, CLASS_NAMES, Training(epochs=1, batch_size=4, learning_rate=0.05))


def method_of(setting, options=None, **more):
    setting = replace(setting, pool=options or PoolOptions())
    return PFedMoAP(setting, **{"experts": 3, "context_length": 4} | more)


def with_pool(method, copies=()):
    """The server's state with a pool of random prompts; ``copies`` hold client 1's."""
    state = method.init()
    stream = torch.Generator().manual_seed(3)
    prompts = {c: torch.randn(state.context.shape, generator=stream) for c in CLIENTS}
    prompts |= {client: prompts[ClientId(1)] + 1e-4 for client in copies}
    return replace(state, pool=ExpertPool(prompts))


def served(method, state, cohort=CLIENTS):
    return {d.client: d.served for d in method.plan(state, cohort, 4)}


@pytest.mark.parametrize("selection", ["nearest", "random"])
def test_copies_are_served_once_and_not_to_whom_they_were_made_from(setting, selection):
    copies = [ClientId(4), ClientId(6)]
    method = method_of(setting, selection=selection)
    state = with_pool(method, copies)
    given = served(method, state)
    for client, experts in given.items():
        assert len(experts) == 3
        assert not {4, 6} & set(experts)
        assert client not in (1, 4, 6) or 1 not in experts
    assert set(method.screened(state)) == {4, 6}
    before = served(method_of(setting, PoolOptions(copies=None), selection=selection), state)
    assert any({4, 6} & set(experts) for experts in before.values())


def test_without_anything_to_screen_the_nearest_are_served(setting):
    method = method_of(setting)
    state = with_pool(method)
    assert method.screened(state) == {}
    for client, experts in served(method, state).items():
        assert list(experts) == [e.client for e in state.pool.nearest(client, 3)]


def test_far_prompts_are_served_to_nobody_where_asked_for(setting):
    method = method_of(setting, PoolOptions(screen=3.0), experts=7)
    state = with_pool(method)
    state = replace(state, pool=state.pool.put({ClientId(5): 60 * state.pool[ClientId(5)]}))
    given = served(method, state)
    assert all(5 not in experts for experts in given.values())
    assert len(given[ClientId(5)]) == 7, "it is still served itself"


@pytest.mark.parametrize("selection", ["nearest", "random"])
def test_an_expert_serves_at_most_so_many_whatever_the_order_of_the_cohort(setting, selection):
    method = method_of(setting, PoolOptions(max_served=2), selection=selection, experts=2)
    state = with_pool(method)
    given = served(method, state)
    counted = [expert for experts in given.values() for expert in experts]
    assert max(map(counted.count, counted)) <= 2
    assert len(counted) >= 12
    assert served(method, state, CLIENTS[::-1]) == given


def test_newcomers_are_shown_no_copies(setting):
    method = method_of(setting, newcomers="experts", experts=7)
    state = with_pool(method, [ClientId(4)])
    [download] = method.plan(state, [ClientId(99)], 4)
    assert len(download.arrays["guest_experts"]) == 7
    assert not any(
        torch.equal(g, state.pool[ClientId(4)]) for g in download.arrays["guest_experts"]
    )


def test_rounds_in_which_nobody_moves_go_on(setting, tmp_path):
    """All prompts stay the initial one, so that all are copies of each other."""
    still = replace(setting, training=replace(setting.training, learning_rate=1e-30))
    run = RunDirectory.create(tmp_path / "run", {}, {}, resume=False)
    run_federation(method_of(still), random_data([4, 4, 4, 4]), Rounds(3), 0, NoPrivacy(), run=run)
    first, *later = run.metrics()
    assert "screened" not in first
    for record in later:
        assert set(record["screened"]) == {"1", "2", "3"}
        assert record["screened"]["1"] == "its prompt is nearly that of client 0"
        assert all(experts == [] for experts in record["served"].values())


def test_methods_that_serve_no_experts_refuse_the_options(setting):
    quick = {"fedsp": {"distillation_steps": 0}}
    strict = replace(setting, pool=PoolOptions(max_served=1))
    for name in Methods():
        if name in ("evidence_mixture", "pfedmoap"):
            refuse_unread_options(method_class(name)(strict))
            continue
        with pytest.raises(ConfigError, match="options of `pool` would change nothing"):
            refuse_unread_options(method_class(name)(strict, **quick.get(name, {})))


def test_an_approximate_search_is_in_the_record_and_goes_on_when_a_run_is_resumed(
    setting, tmp_path
):
    method = method_of(setting, PoolOptions(exact_below=3))
    data, rounds = random_data([4] * 6), Rounds(3, participation=0.7)

    class Stopped(BaseException):
        pass

    def stop(done, _):
        if done == 2:
            raise Stopped

    def run(folder, progress=lambda *_: None):
        directory = RunDirectory.create(folder, {}, {}, resume=True)
        run_federation(method, data, rounds, 0, NoPrivacy(), run=directory, progress=progress)
        return directory

    straight = run(tmp_path / "straight")
    assert [record.get("searched") for record in straight.metrics()] == [
        {"recall": 1.0, "approximate": 1.0}
    ] * 3
    with pytest.raises(Stopped):
        run(tmp_path / "resumed", stop)
    resumed = run(tmp_path / "resumed")
    assert straight.load_server().keys() >= {"pool.search.basis", "pool.search.counts"}
    for name, array in straight.load_server().items():
        assert torch.equal(resumed.load_server()[name], array), name
