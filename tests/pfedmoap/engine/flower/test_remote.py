"""A federation over Flower's messages gives what the same federation gives in this process."""

import math
from dataclasses import replace

import pytest
import torch

from eval.contract.federation import CLASSES
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.contract.tasks import Setting
from pfedmoap.engine.flower.arrays import to_record
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.letters import seal, unseal
from pfedmoap.engine.flower.remote import committed_rounds
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.simulation import FederationState, Rounds, run_federation, run_rounds
from pfedmoap.errors import PrivacyError, RunError, UpdateRejectedError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId
from privacy.central_options import Central
from privacy.mechanisms.central import EVERYBODY, ForTrustedServer
from privacy.options import DPSGD
from tests.helpers.flower_grid import MemoryGrid, OneSite, app_of, remote, site_maker
from tests.helpers.small_federation import make_data

DATA = {ClientId(i): make_data(ClientId(i), size, 128) for i, size in enumerate([5, 9, 7])}
ROUNDS = Rounds(rounds=3)
PLAN = PlannedTraining(rounds=3, epochs=1, batch_size=4)
OPTIONS = {
    "pfedmoap": {"experts": 2, "context_length": 4},
    "promptfl": {"context_length": 4},
    "pfpt": {"context_length": 2},
}


def method_of(clip, name, **setting):
    training = Training(epochs=1, batch_size=4, learning_rate=0.05, clients_per_batch=1)
    return method_class(name)(Setting(clip, CLASSES, training), **OPTIONS[name])


def sites(clip, name, folder, privatizer=NoPrivacy):
    """Give each site a method and a privatizer of its own, as on a machine of its own."""
    hosts = [
        OneSite(
            f"site-{client}",
            site_maker(method_of(clip, name), data, folder / str(client), privatizer),
        )
        for client, data in DATA.items()
    ]
    return hosts, MemoryGrid({100 + i: app_of(host) for i, host in enumerate(hosts)})


def run_remotely(clip, name, folder, privatizer=NoPrivacy, rounds=ROUNDS):
    hosts, grid = sites(clip, name, folder, privatizer)
    method = method_of(clip, name)
    server = remote(method, grid, rounds, privatizer())
    result = run_rounds(method, rounds, server.privatizer, server.step)
    return result, hosts, grid


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("name", ["pfedmoap", "promptfl", "pfpt"])
def test_prompts_and_gates_are_those_of_the_engine_in_this_process(clip, name, tmp_path):
    result, hosts, _ = run_remotely(clip, name, tmp_path)
    method = method_of(clip, name)
    expected = run_federation(method, DATA, ROUNDS, 0, NoPrivacy())
    assert_same(method.to_arrays(result.state), method.to_arrays(expected.state))
    for client, local in expected.local_states.items():
        assert_same(hosts[client].made[client].state.load(3), local)


def test_private_rounds_are_those_of_the_engine_in_this_process(clip, tmp_path):
    method = method_of(clip, "pfedmoap")
    options = DPSGD(sample_rate=0.5, insecure_seed=5)
    result, hosts, _ = run_remotely(
        clip, "pfedmoap", tmp_path, lambda: options.privatizer(method, PLAN, None)
    )
    privatizer = options.privatizer(method, PLAN, None)
    expected = run_federation(method, DATA, ROUNDS, 0, privatizer)
    assert_same(method.to_arrays(result.state), method.to_arrays(expected.state))
    for client, local in expected.local_states.items():
        assert_same(hosts[client].made[client].state.load(3), local)
        assert hosts[client].made[client].state.charges == 3 == expected.charges[client]


def test_halved_numbers_on_the_wire_give_the_same_too(clip, tmp_path):
    rounds = replace(ROUNDS, wire="float16")
    result, _, _ = run_remotely(clip, "pfedmoap", tmp_path, rounds=rounds)
    method = method_of(clip, "pfedmoap")
    expected = run_federation(method, DATA, rounds, 0, NoPrivacy())
    assert_same(method.to_arrays(result.state), method.to_arrays(expected.state))


def test_bytes_are_those_of_the_engine_in_this_process_and_frames_cost_little(clip, tmp_path):
    folder = tmp_path / "run"
    _, grid = sites(clip, "pfedmoap", tmp_path)
    method = method_of(clip, "pfedmoap")
    server = remote(method, grid, ROUNDS)
    server.roll.wait(1)
    greeted = grid.sent_bytes
    run = RunDirectory.create(folder, {}, {}, resume=False)
    run_rounds(method, ROUNDS, server.privatizer, server.step, run=run)
    local = RunDirectory.create(tmp_path / "local", {}, {}, resume=False)
    run_federation(method, DATA, ROUNDS, 0, NoPrivacy(), run=local)
    found = [record["traffic"] for record in run.metrics()]
    assert found == [record["traffic"] for record in local.metrics()]
    payload = sum(
        sum(each["down_bytes"].values()) + sum(each["up_bytes"].values())
        for record in found
        for each in record
    )
    messages = 2 * len(DATA) * ROUNDS.rounds
    assert payload < grid.sent_bytes - greeted < payload + 4096 * messages


def test_a_killed_server_goes_on_as_if_it_had_not_been(clip, tmp_path):
    method = method_of(clip, "pfedmoap")
    hosts, grid = sites(clip, "pfedmoap", tmp_path / "sites")
    run = RunDirectory.create(tmp_path / "run", {}, {}, resume=False)
    first = remote(method, grid, ROUNDS)

    def killed_after_training(now, round):
        result = first.step(now, round)
        if round == 2:
            raise KeyboardInterrupt
        return result

    with pytest.raises(KeyboardInterrupt):
        run_rounds(method, ROUNDS, first.privatizer, killed_after_training, run=run)
    again = remote(method, grid, ROUNDS)
    again.committed.update(committed_rounds(run.metrics()))
    assert again.committed == {0: 1, 1: 1, 2: 1}
    result = run_rounds(method, ROUNDS, again.privatizer, again.step, run=run)
    expected = run_federation(method, DATA, ROUNDS, 0, NoPrivacy())
    assert_same(method.to_arrays(result.state), method.to_arrays(expected.state))
    for client, local in expected.local_states.items():
        assert_same(hosts[client].made[client].state.load(3), local)


def spoil(change, node=101, kind="train"):
    """Change what one node answers when it has trained."""

    def meddle(reply):
        ours = reply.metadata.src_node_id == node and reply.metadata.message_type == kind
        return change(reply) if ours else reply

    return meddle


def with_arrays(reply, **arrays):
    about, _ = unseal(reply.content)
    reply.content = seal(about, to_record(arrays))
    return reply


def with_answer(reply, **about):
    said, arrays = unseal(reply.content)
    reply.content = seal(said | about, arrays)
    return reply


CONTEXT = torch.zeros(4, 32)
FAULTS = {
    "not finite": lambda reply: with_arrays(reply, context=CONTEXT / 0),
    "expected (4, ": lambda reply: with_arrays(reply, context=CONTEXT[:3]),
    "expected ['context']": lambda reply: with_arrays(reply, context=CONTEXT, label=CONTEXT),
    "another one's": lambda reply: with_answer(reply, client=0),
    "was sent before": lambda reply: with_answer(reply, nonce="0" * 32),
    "has the federation 'f1'": lambda reply: with_answer(reply, federation="f1"),
    "no answer of a site": lambda reply: with_answer(reply, epsilon="none"),
    "dtype": lambda reply: with_arrays(reply, context=CONTEXT.int()),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_faulty_answer_harms_its_own_site_alone(clip, what, tmp_path):
    method = method_of(clip, "pfedmoap")
    hosts, grid = sites(clip, "pfedmoap", tmp_path)
    server = remote(method, grid, ROUNDS)
    grid.meddle = spoil(FAULTS[what])
    now = FederationState(0, method.init(), {})
    result = server.step(now, 1)
    assert set(result.rejected) == {1}
    assert what in result.rejected[1]
    assert server.committed == {0: 1, 2: 1}
    assert hosts[1].made[1].state.load(server.committed.get(1, 0)) is None
    grid.meddle = lambda reply: reply
    assert server.step(FederationState(1, result.state, {}), 2).rejected == {}


def test_an_old_answer_is_refused(clip, tmp_path):
    method = method_of(clip, "promptfl")
    _, grid = sites(clip, "promptfl", tmp_path)
    server = remote(method, grid, ROUNDS)
    first = server.step(FederationState(0, method.init(), {}), 1)
    old = next(r.content for r in grid.answered if r.metadata.message_type == "train")

    def replay(reply):
        reply.content = old
        return reply

    grid.meddle = spoil(replay, node=100)
    second = server.step(FederationState(1, first.state, {}), 2)
    assert "sent before" in second.rejected[0]


def test_a_node_that_vanishes_is_named_and_the_round_goes_on(clip, tmp_path):
    method = method_of(clip, "pfedmoap")
    _, grid = sites(clip, "pfedmoap", tmp_path)
    grid.meddle = spoil(lambda _: None)
    server = remote(method, grid, ROUNDS)
    result = server.step(FederationState(0, method.init(), {}), 1)
    assert result.cohort == (0, 2)
    assert "did not answer within 3 seconds" in result.sat_out[1]


def test_fewer_answers_than_a_round_needs_stop_the_run(clip, tmp_path):
    method = method_of(clip, "pfedmoap")
    _, grid = sites(clip, "pfedmoap", tmp_path)
    grid.meddle = spoil(lambda _: None)
    server = remote(method, grid, ROUNDS, min_clients=3, attempts=2)
    with pytest.raises(RunError, match=r"fewer than 3 sites .* in 2 attempts"):
        server.step(FederationState(0, method.init(), {}), 1)
    assert server.committed == {}


def test_a_newcomer_trains_from_the_next_round_on(clip, tmp_path):
    method = method_of(clip, "pfedmoap")
    _, grid = sites(clip, "pfedmoap", tmp_path)
    late = grid.apps.pop(100)
    server = remote(method, grid, ROUNDS)
    now = FederationState(0, method.init(), {})
    for round in (1, 2):
        result = server.step(now, round)
        assert result.cohort == (0, 1)
        now = FederationState(round, result.state, {})
    grid.apps[100] = late
    assert server.step(now, 3).cohort == (0, 1, 2)
    assert server.roll.members.by_name["site-0"].client == 2
    assert server.roll.members.by_name["site-0"].joined == 3


def test_a_site_that_is_still_encoding_is_greeted_again_and_a_refused_one_later(clip, tmp_path):
    method = method_of(clip, "promptfl")
    hosts, grid = sites(clip, "promptfl", tmp_path)
    grid.meddle = spoil(lambda _: None, node=102, kind="query.hello")
    server = remote(method, grid, ROUNDS)
    hosts[1].name = "site-0"  # as another one calls itself
    assert sorted(server.roll.gather(1).values()) == [100]
    grid.meddle = lambda reply: reply
    assert sorted(server.roll.gather(1).values()) == [100, 102]
    hosts[1].name = "site-1"
    for _ in range(70):  # seconds of this fleet's clock
        server.roll.gather(1)
    assert sorted(server.roll.gather(1).values()) == [100, 101, 102]


def test_a_latecomer_that_encodes_its_images_keeps_the_others_waiting_half_as_long(clip, tmp_path):
    method = method_of(clip, "promptfl")
    _, grid = sites(clip, "promptfl", tmp_path)
    late = grid.apps.pop(102)
    server = remote(method, grid, ROUNDS, min_clients=2)
    waited = []

    class Watched(Fleet):
        def ask(self, kind, contents, group="", most_seconds=math.inf):
            waited.append((kind, len(contents), most_seconds))
            return super().ask(kind, contents, group, most_seconds)

    server.roll.fleet = Watched(**vars(server.roll.fleet))
    server.roll.gather(1)
    grid.apps[102] = late
    server.roll.gather(2)
    assert waited == [("query.hello", 2, 60.0), ("query.hello", 1, 30.0)]


def central(clip, rounds, clients=DATA):
    plan = replace(PLAN, clients=tuple(clients), participation=rounds.participation)
    options = Central(epsilon=100.0, noise_multiplier=0.5, insecure_seed=1)
    return options.privatizer(method_of(clip, "promptfl"), plan, None)


def test_all_sites_train_under_central_privacy_and_a_secret_draw_says_who_counts(clip, tmp_path):
    """The result is the engine's in this process; what the network sees is the same every round."""
    rounds, method = replace(ROUNDS, participation=0.5), method_of(clip, "promptfl")
    _, grid = sites(clip, "promptfl", tmp_path, ForTrustedServer)
    server = remote(method, grid, rounds, central(clip, rounds))
    server.registered = tuple(DATA)
    asked, cohorts = [], []

    def step(now, round):
        before = len(grid.answered)
        result = server.step(now, round)
        kinds = [reply.metadata.message_type for reply in grid.answered[before:]]
        asked.append(kinds.count("train"))
        cohorts.append(result.cohort)
        return result

    result = run_rounds(method, rounds, server.privatizer, step)
    expected = run_federation(method, DATA, rounds, 0, central(clip, rounds))
    assert_same(method.to_arrays(result.state), method.to_arrays(expected.state))
    assert asked == [3, 3, 3]
    assert {len(cohort) for cohort in cohorts} != {3}, "not all count"
    assert server.committed == {one: n for n, cohort in enumerate(cohorts, 1) for one in cohort}


def test_a_site_that_is_away_counts_under_central_privacy_as_one_that_was_not_drawn(clip, tmp_path):
    rounds, method = ROUNDS, method_of(clip, "promptfl")  # all are drawn
    _, grid = sites(clip, "promptfl", tmp_path, ForTrustedServer)
    clients = (*DATA, ClientId(3))  # has a key, and never comes
    server = remote(method, grid, rounds, central(clip, rounds, clients))
    server.registered = clients
    result = server.step(FederationState(0, method.init(), {}), 1)
    assert result.cohort == tuple(DATA)
    assert result.sat_out == {3: "it was not there"}
    assert set(result.epsilon) == set(clients), "the one account is everybody's"
    server.registered = clients[:2]  # of sites without a key nobody is asked
    grid.answered.clear()
    with pytest.raises(PrivacyError, match="planned for others"):
        server.step(FederationState(1, result.state, {}), 2)
    kinds = [reply.metadata.message_type for reply in grid.answered]
    assert kinds == ["train", "train"]


def test_a_round_that_is_begun_again_costs_no_budget_under_central_privacy(clip, tmp_path):
    rounds, method = ROUNDS, method_of(clip, "promptfl")
    _, grid = sites(clip, "promptfl", tmp_path, ForTrustedServer)
    grid.meddle = spoil(lambda _: None)
    privatizer = central(clip, rounds)
    server = remote(method, grid, rounds, privatizer, min_clients=3, attempts=2)
    server.registered = tuple(DATA)
    with pytest.raises(RunError, match="in 2 attempts"):
        server.step(FederationState(0, method.init(), {}), 1)
    assert privatizer.account.ledgers.rounds_charged(EVERYBODY) == 0


def test_a_site_obeys_no_other_server(clip, tmp_path):
    method = method_of(clip, "promptfl")
    hosts, grid = sites(clip, "promptfl", tmp_path)
    server = remote(method, grid, ROUNDS)
    server.roll.wait(1)
    server.roll.signer = Signer.kept_in(tmp_path / "other.key")
    for ask in (lambda now: server.step(now, 1), server.evaluate):
        with pytest.raises(UpdateRejectedError, match="not signed by the server's key"):
            ask(FederationState(0, method.init(), {}))
    assert all(not host.made for host in hosts)
