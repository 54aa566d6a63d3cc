"""What every method must do. Methods are found by name: a new one is tested without an edit."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pfedmoap.admission import admit
from pfedmoap.gradients import NoPrivacy
from pfedmoap.method import (
    AnyMethod,
    ClientData,
    Prediction,
    Setting,
    method_class,
    method_classes,
)
from pfedmoap.optional import personal_states
from pfedmoap.transport.in_process import InProcess
from pfedmoap.types import Arrays, ClientId

NAMES = sorted(method_classes())


def same(first: Arrays, second: Arrays, tolerance: float = 0.0) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and torch.allclose(first[name], second[name], rtol=0, atol=tolerance)
        for name in first
    )


def snapshot(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: array.clone() for name, array in arrays.items()}


@pytest.fixture(params=NAMES)
def method(request, setting, quick) -> AnyMethod:
    return method_class(request.param)(setting, **quick.get(request.param, {}))


def round_trip(arrays: Arrays, file: Path) -> Arrays:
    save_file({name: array.contiguous() for name, array in arrays.items()}, file)
    return load_file(file)


def test_same_seed_gives_same_bytes(method, small):
    first, second = small(method), small(replace(method))
    (state, locals, results), (again, locals_again, results_again) = (
        first.rounds(3),
        second.rounds(3),
    )
    assert same(method.to_arrays(state), method.to_arrays(again))
    for client in locals:
        assert same(locals[client], locals_again[client])
    for one, two in zip(results, results_again, strict=True):
        assert same(one.update.arrays, two.update.arrays)


def test_another_seed_gives_another_model(method, small, setting):
    other = replace(method, setting=replace(setting, seed=12))
    _, locals, results = small(method).rounds(2)
    _, other_locals, other_results = small(other).rounds(2)
    for one, two in zip(results, other_results, strict=True):
        client = one.update.client
        known = {**one.update.arrays, **locals[client]}
        assert known
        assert not same(known, {**two.update.arrays, **other_locals[client]})


def test_global_random_state_is_neither_read_nor_changed(method, small):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    state, _, _ = small(method).rounds(2)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again, _, _ = small(replace(method)).rounds(2)
    assert same(method.to_arrays(state), method.to_arrays(again))


def test_order_of_tasks_and_updates_is_irrelevant(method, small):
    world = small(method)
    state, locals, _ = world.rounds(1)
    tasks = world.tasks(state, list(world.data), 2, locals)
    forward = method.train(tasks, NoPrivacy())
    backward = method.train(tasks[::-1], NoPrivacy())
    by_client = {result.update.client: result for result in backward}
    for result in forward:
        twin = by_client[result.update.client]
        assert same(result.update.arrays, twin.update.arrays)
        assert same(result.local, twin.local)
    updates = [result.update for result in forward]
    ahead, behind = method.aggregate(state, updates), method.aggregate(state, updates[::-1])
    assert same(method.to_arrays(ahead), method.to_arrays(behind))


def test_order_of_cohort_is_irrelevant_to_the_plan(method, small):
    world = small(method)
    state, _, _ = world.rounds(1)
    cohort = list(world.data)
    for one, two in zip(
        method.plan(state, cohort, 2), method.plan(state, cohort[::-1], 2), strict=True
    ):
        assert (one.client, one.round) == (two.client, two.round)
        assert same(one.arrays, two.arrays)


def test_uploads_are_exactly_the_declared_arrays(method, small):
    world = small(method)
    for rounds in (1, 2):
        _, _, results = world.rounds(rounds)
        for result in results:
            update = result.update
            assert admit(update, method.uploads, update.client, rounds) is update


def test_nothing_that_a_client_keeps_to_itself_reaches_anybody(method, small):
    """What is in the local state and neither uploaded nor downloaded is nowhere else, by value."""
    world = small(method)
    state, locals, results = world.rounds(2)
    messages = [result.update.arrays for result in results]
    messages += [download.arrays for download in method.plan(state, list(world.data), 3)]
    messages += [method.to_arrays(state)]
    public = {array.numpy().tobytes() for arrays in messages for array in arrays.values()}
    for task in world.tasks(state, list(locals), 2, locals):
        assert task.local is not None
        private = task.local.keys() - set(method.uploads) - set(task.download.arrays)
        for name in private:
            if task.local[name].numel() > 1:  # two counts of steps may well be the same number
                assert task.local[name].numpy().tobytes() not in public, name


def test_metrics_are_a_finite_training_loss(method, small):
    _, _, results = small(method).rounds(1)
    for result in results:
        assert set(result.update.metrics) == {"train_loss"}
        assert math.isfinite(result.update.metrics["train_loss"])


def test_saved_and_loaded_state_goes_on_identically(method, small, tmp_path):
    world = small(method)
    state, locals, _ = world.rounds(2)
    loaded = method.from_arrays(round_trip(method.to_arrays(state), tmp_path / "server"))
    loaded_locals = {
        client: round_trip(local, tmp_path / f"client-{client}") for client, local in locals.items()
    }
    cohort = list(world.data)
    straight, straight_locals, _ = world.round(state, locals, cohort, 3)
    fresh = small(replace(method))
    resumed, resumed_locals, _ = fresh.round(loaded, loaded_locals, cohort, 3)
    assert same(method.to_arrays(straight), method.to_arrays(resumed))
    assert straight_locals.keys() == resumed_locals.keys()
    for client in straight_locals:
        assert same(straight_locals[client], resumed_locals[client])


def test_clients_side_by_side_equal_clients_one_by_one(method, small, setting):
    training = replace(setting.training, clients_per_batch=1)
    alone = replace(method, setting=replace(setting, training=training))
    state, locals, _ = small(method).rounds(2)
    state_alone, locals_alone, _ = small(alone).rounds(2)
    assert same(method.to_arrays(state), method.to_arrays(state_alone), tolerance=1e-5)
    for client in locals:
        assert same(locals[client], locals_alone[client], tolerance=1e-5)


def test_second_round_does_not_depend_on_who_ran_between(method, small):
    """One client's model depends on its task alone, not on other clients in the process."""
    world = small(method)
    me, others = ClientId(4), [ClientId(0), ClientId(1), ClientId(7)]
    state, locals, _ = world.rounds(1)
    task = [t for t in world.tasks(state, [me], 2, locals) if t.download.client == me]
    before = method.train(task, NoPrivacy())
    method.train(world.tasks(state, others, 2, locals), NoPrivacy())
    after = method.train(task, NoPrivacy())
    isolated = replace(method).train(task, NoPrivacy())
    for one in (after, isolated):
        assert [r.update.client for r in one] == [r.update.client for r in before]
        for x, y in zip(before, one, strict=True):
            assert same(x.update.arrays, y.update.arrays)
            assert same(x.local, y.local)


def test_training_and_planning_leave_their_inputs_alone(method, small):
    world = small(method)
    state, locals, results = world.rounds(2)
    frozen = snapshot(method.to_arrays(state))
    frozen_locals = {client: snapshot(local) for client, local in locals.items()}
    frozen_uploads = [snapshot(result.update.arrays) for result in results]
    world.round(state, locals, list(world.data), 3)
    assert same(frozen, method.to_arrays(state))
    for client in locals:
        assert same(frozen_locals[client], locals[client])
    for before, result in zip(frozen_uploads, results, strict=True):
        assert same(before, result.update.arrays)


def test_predicting_reads_and_never_writes(method, small):
    world = small(method)
    state, locals, _ = world.rounds(2)
    frozen = snapshot(method.to_arrays(state))
    frozen_locals = {client: snapshot(local) for client, local in locals.items()}
    first = predict_all(method, world, state, locals)
    second = predict_all(method, world, state, locals)
    method.predict_global(state, world.data[ClientId(0)].view())
    assert same(frozen, method.to_arrays(state))
    for client in locals:
        assert same(frozen_locals[client], locals[client])
    assert all(torch.equal(first[client].logits, second[client].logits) for client in first)


def predict_all(
    method: AnyMethod, world, state, locals: Mapping[ClientId, Arrays]
) -> dict[ClientId, Prediction]:
    return {
        download.client: method.predict(
            download, locals.get(download.client), world.data[download.client].view()
        )
        for download in method.plan(state, list(world.data), 9)
    }


def test_predictions_have_a_logit_for_every_class(method, small):
    world = small(method)
    state, locals, _ = world.rounds(2)
    for client, prediction in predict_all(method, world, state, locals).items():
        expected = (len(world.data[client]), 3)
        assert prediction.logits.shape == expected
        assert prediction.logits.isfinite().all()
        assert not prediction.logits.requires_grad
        if prediction.attention is not None:
            assert prediction.attention.shape == (*expected, 1 + len(prediction.experts))
            assert torch.allclose(prediction.attention.sum(-1), torch.ones(expected))
    everybody = method.predict_global(state, world.data[ClientId(0)].view())
    assert everybody is None or everybody.logits.shape == (5, 3)


def test_examples_are_classified_independently(method, small):
    world = small(method)
    state, locals, _ = world.rounds(2)
    client = ClientId(4)
    (download,) = method.plan(state, [client], 3)
    view = world.data[client].view()
    together = method.predict(download, locals.get(client), view).logits
    one = {kind: values[2:3] for kind, values in view.items()}
    alone = method.predict(download, locals.get(client), one).logits
    assert torch.allclose(together[2:3], alone, atol=1e-4)


def test_a_client_that_never_took_part_can_predict_and_join_later(method, small):
    world = small(method)
    newcomer, cohort = ClientId(7), [ClientId(0), ClientId(4)]
    state, locals, _ = world.rounds(2, cohort)
    assert newcomer not in locals
    (download,) = method.plan(state, [newcomer], 3)
    prediction = method.predict(download, None, world.data[newcomer].view())
    assert prediction.logits.shape == (1, 3)
    state, locals, _ = world.round(state, locals, [newcomer, ClientId(4)], 3)
    assert predict_all(method, world, state, locals).keys() == world.data.keys()


def test_a_round_without_admitted_updates_changes_nothing(method, small):
    world = small(method)
    state, _, _ = world.rounds(1)
    assert same(method.to_arrays(state), method.to_arrays(method.aggregate(state, [])))


def test_personal_copies_are_made_without_touching_the_federation(method, small):
    world = small(method)
    state, locals, _ = world.rounds(1)
    frozen = snapshot(method.to_arrays(state))
    tasks = world.tasks(state, list(world.data), 2, locals)
    personal = personal_states(method, tasks, NoPrivacy())
    assert personal.keys() == world.data.keys()
    assert same(frozen, method.to_arrays(state))
    for task in tasks:
        view = task.data.view()
        logits = method.predict(task.download, personal[task.download.client], view).logits
        assert logits.shape == (len(task.data), 3)


def test_what_is_known_survives_the_wire_in_half_precision(method, small):
    world = small(method)
    state, locals, results = world.rounds(1)
    wire = InProcess("float16")
    updates = [wire.up(result.update) for result in results]
    state = method.aggregate(method.init(), updates)
    for download in map(wire.down, method.plan(state, list(world.data), 2)):
        features = world.data[download.client].view()
        logits = method.predict(download, locals.get(download.client), features).logits
        assert logits.isfinite().all()


def test_declares_what_it_needs(method, setting: Setting):
    assert set(method.features) <= set(setting.backbone.feature_kinds)
    assert isinstance(method.trains, bool)
    for spec in method.uploads.values():
        assert all(side > 0 for side in spec.shape)


def test_only_declared_features_are_read(method, small, data: Mapping[ClientId, ClientData]):
    lean = {
        client: ClientData({kind: own.features[kind] for kind in method.features}, own.labels)
        for client, own in data.items()
    }
    world = replace(small(method), data=lean)
    state, locals, _ = world.rounds(2)
    full_state, _, _ = small(method).rounds(2)
    assert same(method.to_arrays(state), method.to_arrays(full_state))
    assert predict_all(method, world, state, locals)


def test_every_method_file_exports_a_documented_method():
    assert {"promptfl", "local_coop", "pfedmoap", "zero_shot"} <= set(NAMES)
    for method in method_classes().values():
        assert method.__doc__
        assert method.__dataclass_params__.frozen
