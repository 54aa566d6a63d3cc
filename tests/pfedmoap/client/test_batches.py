"""Batch plans: every example once an epoch, and padding that says that it is padding."""

import torch

from pfedmoap.client.batches import BatchPlan, StackedData, Stream, shuffled_epochs
from pfedmoap.wire.messages import ClientId

CPU = torch.device("cpu")


def streams(count, round=1):
    return [Stream(0, ClientId(i), round) for i in range(count)]


def real(plan, client):
    """Examples and views of each of a client's steps."""
    return [
        (plan.index[s, client][w > 0].tolist(), plan.view[s, client][w > 0].tolist())
        for s in range(len(plan.index))
        if (w := plan.weight[s, client]).sum() > 0
    ]


def test_every_example_comes_once_an_epoch():
    plan = shuffled_epochs([7, 3], 1, streams(2), epochs=2, batch_size=3)
    for client, (size, steps) in enumerate([(7, 3), (3, 1)]):
        batches = [index for index, _ in real(plan, client)]
        assert len(batches) == 2 * steps
        for epoch in range(2):
            own = batches[epoch * steps : (epoch + 1) * steps]
            assert sorted(i for batch in own for i in batch) == list(range(size))


def test_weights_of_a_step_add_up_to_one_and_padding_weighs_nothing():
    plan = shuffled_epochs([7, 3], 1, streams(2), epochs=1, batch_size=3)
    totals = plan.weight.sum(-1)
    assert torch.allclose(totals[plan.active], torch.tensor(1.0))
    assert bool((totals[~plan.active] == 0).all())
    assert plan.active.tolist() == [[True, True], [True, False], [True, False]]
    assert plan.widths == (3, 3, 1)


def test_views_rotate_until_all_were_seen():
    seen: dict[int, set[int]] = {i: set() for i in range(5)}
    for round in (1, 2):
        plan = shuffled_epochs([5], 4, streams(1, round), epochs=2, batch_size=2)
        for index, views in real(plan, 0):
            for i, view in zip(index, views, strict=True):
                assert view not in seen[i]
                seen[i].add(view)
    assert all(views == {0, 1, 2, 3} for views in seen.values())


def test_a_clients_plan_does_not_depend_on_the_others():
    alone = shuffled_epochs([5], 2, streams(1), epochs=2, batch_size=2)
    beside = shuffled_epochs([5, 90], 2, streams(2), epochs=2, batch_size=2)
    assert real(alone, 0) == real(beside, 0)


def test_a_client_takes_its_empty_steps_too():
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    some = torch.ones(1, 3, dtype=torch.int64)
    plan = BatchPlan.stack(
        [(nothing, nothing, nothing.float()), (some, some, some.float())], streams(2)
    )
    assert plan.active.tolist() == [[True, True], [True, False]]
    assert plan.widths == (3, 1)
    assert plan.weight.shape == (2, 2, 3)


def test_batches_hold_the_planned_examples_and_no_more_columns_than_needed():
    features = [{"x": torch.arange(10.0).view(5, 2)}, {"x": 100 + torch.arange(2.0).view(1, 2)}]
    labels = [torch.arange(5), torch.tensor([9])]
    data = StackedData.stack(features, labels, CPU)
    plan = shuffled_epochs([5, 1], 2, streams(2), epochs=1, batch_size=3).to(CPU)
    assert data.batch(plan, 1).labels.shape == (2, 2)
    batch = data.batch(plan, 0)
    assert batch.streams == tuple(streams(2))
    index, view = plan.index[0, 0], plan.view[0, 0]
    assert batch.features["x"][0].tolist() == (2.0 * index + view).tolist()
    assert batch.labels[0].tolist() == index.tolist()
    assert batch.labels[1, 0] == 9
    assert batch.weight[1].tolist() == [1.0, 0.0, 0.0]


def test_a_client_without_examples_stands_still_beside_others_and_alone():
    some, none = torch.ones(3, 2), torch.zeros(0, 2)
    for sizes, features in (([3, 0], [some, none]), ([0, 0], [none, none])):
        labels = [torch.zeros(size, dtype=torch.int64) for size in sizes]
        data = StackedData.stack([{"x": own} for own in features], labels, CPU)
        plan = shuffled_epochs(sizes, 2, streams(2), epochs=2, batch_size=2)
        assert plan.active.sum(0).tolist() == [4 if size else 0 for size in sizes]
        for step in range(len(plan.index)):
            assert data.batch(plan, step).weight[1].tolist() in ([0.0], [0.0, 0.0])


def test_steps_in_place_of_epochs_go_through_the_data_as_often_as_it_takes():
    """Seven examples in threes: three steps a pass; the fourth step begins the next pass."""
    plan = shuffled_epochs([7, 2, 0], 1, streams(3), epochs=1, batch_size=3, steps=4)
    assert plan.active.sum(0).tolist() == [4, 4, 0]
    whole = shuffled_epochs([7, 2], 1, streams(2), epochs=4, batch_size=3)
    for client in (0, 1):
        assert torch.equal(plan.index[:4, client], whole.index[:4, client])
        assert torch.equal(plan.weight[:4, client], whole.weight[:4, client])
    seen = plan.index[:3, 0][plan.weight[:3, 0] > 0]
    assert sorted(seen.tolist()) == list(range(7))
