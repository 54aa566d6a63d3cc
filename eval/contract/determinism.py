"""Checks that a method's results depend only on its inputs and its seed."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require, require_same, require_same_results, same, snapshot
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.server_rows import KeepsRows, ServerRows, joined
from pfedmoap.storage.atomic_files import read_arrays, write_arrays
from pfedmoap.wire.messages import Arrays, ClientId


def same_seed_gives_the_same_bytes(world: SmallFederation) -> None:
    """All randomness comes from the setting's seed."""
    state, local_states, results = world.rounds(3)
    again, local_states_again, results_again = world.again().rounds(3)
    arrays = world.method.to_arrays
    require_same(arrays(state), arrays(again), "the server's state differs from run to run")
    require(
        local_states.keys() == local_states_again.keys(),
        "other clients have local state in each run",
    )
    require_same_results(results, results_again, "a client's round differs from run to run")


def another_seed_gives_another_model(world: SmallFederation) -> None:
    """The setting's seed is used."""
    _, local_states, results = world.rounds(2)
    _, other_local_states, others = world.again(seed=world.method.setting.seed + 1).rounds(2)
    for one, two in zip(results, others, strict=True):
        client = one.update.client
        known = {**one.update.arrays, **local_states[client]}
        require(bool(known), f"client {client} neither uploads nor keeps anything")
        other = {**two.update.arrays, **other_local_states[client]}
        require(not same(known, other), f"client {client} is the same under another seed")


def global_random_state_is_neither_read_nor_changed(world: SmallFederation) -> None:
    """Randomness comes from `pfedmoap.seeding`, not from torch's own state."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        state, _, _ = world.again().rounds(2)  # anew, not those that other checks have seen
        require(torch.equal(before, torch.random.get_rng_state()), "torch's state was changed")
        torch.manual_seed(2)
        again, _, _ = world.again().rounds(2)
    arrays = world.method.to_arrays
    require_same(arrays(state), arrays(again), "torch's random state was read")


def order_of_tasks_and_updates_is_irrelevant(world: SmallFederation) -> None:
    """Sums run in the order of client ids."""
    method = world.method
    state, local_states, _ = world.rounds(1)
    tasks = world.tasks(state, world.clients, 2, local_states)
    forward = method.train(tasks, NoPrivacy())
    backward = method.train(tasks[::-1], NoPrivacy())
    require_same_results(forward, backward, "clients depend on the order of the tasks")
    updates = [result.update for result in forward]
    ahead, behind = method.aggregate(state, updates), method.aggregate(state, updates[::-1])
    require_same(method.to_arrays(ahead), method.to_arrays(behind), "the order of updates matters")


def order_of_the_cohort_is_irrelevant_to_the_plan(world: SmallFederation) -> None:
    """Downloads come in the order of client ids."""
    state, _, _ = world.rounds(1)
    ahead = world.method.plan(state, world.clients, 2)
    behind = world.method.plan(state, world.clients[::-1], 2)
    require([d.client for d in ahead] == world.clients, "plan one download a client, by id")
    require(all(d.round == 2 for d in ahead), "a download is for another round")
    for one, two in zip(ahead, behind, strict=True):
        require(one.client == two.client, "downloads come in the order of the cohort")
        require_same(one.arrays, two.arrays, f"client {one.client} is sent something else")


def saved_and_loaded_state_goes_on_identically(world: SmallFederation) -> None:
    """A run that is killed and resumed gives the same bytes."""
    method = world.method
    state, local_states, _ = world.rounds(2)
    with TemporaryDirectory() as folder:
        loaded = method.from_arrays(_round_trip(method.to_arrays(state), Path(folder)))
        kept = {client: _round_trip(local, Path(folder)) for client, local in local_states.items()}
    straight, _, results = world.round(state, local_states, world.clients, 3)
    resumed, _, results_resumed = world.again().round(loaded, kept, world.clients, 3)
    arrays = method.to_arrays
    require_same(arrays(straight), arrays(resumed), "the resumed server differs")
    require_same_results(results, results_resumed, "a resumed client differs")


def rows_of_the_server_change_with_their_cohort_alone(world: SmallFederation) -> None:
    """See `KeepsRows`: both parts make the whole; who takes no part keeps its entry."""
    if not isinstance(world.method, KeepsRows):
        return
    method: Any = world.method  # whose state is of a type of its own
    state, local_states, _ = world.rounds(1)
    before = _joined(method.divided(state))
    require_same(method.to_arrays(state), before, "the parts make another state")
    absent, *cohort = world.clients
    after, _, _ = world.round(state, local_states, cohort, 2)
    require_same(method.to_arrays(after), _joined(method.divided(after)), "the parts differ later")
    old, new = (_entry(method.divided(each), absent) for each in (state, after))
    require_same(old, new, f"the entry of client {absent}, who took no part, changed")


def _joined(parts: tuple[Arrays, ServerRows | None]) -> Arrays:
    shared, rows = parts
    return shared if rows is None else joined(shared, rows)


def _entry(parts: tuple[Arrays, ServerRows | None], client: ClientId) -> Arrays:
    return {} if parts[1] is None else dict(parts[1].of.get(client, {}))


def _round_trip(arrays: Arrays, folder: Path) -> Arrays:
    write_arrays(folder / "state.safetensors", arrays)
    return read_arrays(folder / "state.safetensors")


def clients_side_by_side_equal_clients_one_by_one(world: SmallFederation) -> None:
    """``training.clients_per_batch`` changes results by rounding alone."""
    training = replace(world.method.setting.training, clients_per_batch=1)
    alone = world.again(training=training)
    state, local_states, _ = world.rounds(2)
    state_alone, local_states_alone, _ = alone.rounds(2)
    arrays = world.method.to_arrays
    require_same(arrays(state), arrays(state_alone), "the server differs", 1e-5)
    for client in local_states:
        require_same(
            local_states[client], local_states_alone[client], f"client {client} differs", 1e-5
        )


def a_client_does_not_depend_on_who_ran_before(world: SmallFederation) -> None:
    """One client's model depends on its task alone, not on other clients in the process."""
    method = world.method
    me = world.clients[2]
    others = [client for client in world.clients if client != me]
    state, local_states, _ = world.rounds(1)
    task = world.tasks(state, [me], 2, local_states)
    before = method.train(task, NoPrivacy())
    method.train(world.tasks(state, others, 2, local_states), NoPrivacy())
    after = method.train(task, NoPrivacy())
    isolated = world.again().method.train(task, NoPrivacy())
    for one in (after, isolated):
        require_same_results(before, one, "other clients left a trace in the method")


def inputs_are_left_alone(world: SmallFederation) -> None:
    """Training and planning return new tensors and do not write into their inputs."""
    arrays = world.method.to_arrays
    state, local_states, results = world.rounds(2)
    frozen = snapshot(arrays(state))
    frozen_local_states = {client: snapshot(local) for client, local in local_states.items()}
    frozen_uploads = [snapshot(result.update.arrays) for result in results]
    world.round(state, local_states, world.clients, 3)
    require_same(frozen, arrays(state), "the old server state was written into")
    for client in local_states:
        require_same(
            frozen_local_states[client], local_states[client], "local state was written into"
        )
    for before, result in zip(frozen_uploads, results, strict=True):
        require_same(before, result.update.arrays, "an update was written into")


def a_round_without_admitted_updates_changes_nothing(world: SmallFederation) -> None:
    """`aggregate` of no updates returns the state as it was."""
    arrays = world.method.to_arrays
    state, _, _ = world.rounds(1)
    after = world.method.aggregate(state, [])
    require_same(arrays(state), arrays(after), "a round without updates changed the state")


def only_declared_features_are_read(world: SmallFederation) -> None:
    """`features` names all that training and prediction read."""
    method = world.method
    lean = {client: own.only(method.features) for client, own in world.data.items()}
    state, local_states, _ = replace(world, data=lean).rounds(2)
    full, _, _ = world.rounds(2)
    require_same(method.to_arrays(state), method.to_arrays(full), "undeclared features matter")
    replace(world, data=lean).predict(state, local_states)
