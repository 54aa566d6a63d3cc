"""Many clients in one call: order, padding, shared models, and methods that know nothing of it."""

from dataclasses import dataclass, replace

import pytest
import torch

from eval.contract.federation import SIZES, SmallFederation, noise_images, small_setting
from eval.contract.suite import CHECKS
from pfedmoap.contract.predicting import (
    IMAGES,
    ManyModels,
    PredictionTask,
    plan_to_predict,
    predictions,
    sent_arrays,
    with_one_model,
)
from pfedmoap.contract.tasks import Prediction
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId, Download

CPU = torch.device("cpu")


def tasks(sizes, scales=None):
    """Task i has images [i, 0], [i, 1], ... and a model that multiplies by its scale."""
    scales = scales or list(range(1, len(sizes) + 1))
    found = []
    for i, (size, scale) in enumerate(zip(sizes, scales, strict=True)):
        image = torch.stack([torch.full((size,), float(i)), torch.arange(float(size))], dim=1)
        arrays = {"scale": torch.tensor([float(scale)])}
        found.append(PredictionTask(Download(1, ClientId(i), arrays), None, {"image": image}))
    return found


def scale_of(task):
    return task.download.arrays["scale"]


@pytest.mark.parametrize("at_most", [1, 2, 64])
def test_answers_come_in_order_whatever_the_sizes(at_most):
    calls = []

    def classify(batch, features):
        image = features["image"]
        calls.append(image.shape[:2])
        scaled = image * torch.stack([scale_of(task) for task in batch])[:, None]
        return scaled, image[..., None]

    given = tasks([3, 1, 5, 2, 8, 1, 4])
    models = ManyModels(
        ("image",),
        CPU,
        classify,
        form=lambda task: task.download.client % 2,
        at_most=lambda _: at_most,
        experts=lambda task: (task.download.client,),
    )
    answers = list(models.predict(given))
    assert len(answers) == len(given)
    for task, answer in zip(given, answers, strict=True):
        image = task.features["image"]
        assert torch.equal(answer.logits, image * scale_of(task))
        assert torch.equal(answer.attention, image[..., None])
        assert answer.experts == (task.download.client,)
    assert max(models for models, _ in calls) <= at_most
    padded = sum(models * images for models, images in calls)
    assert padded < 2 * sum(task.images for task in given)


def test_tasks_of_one_model_are_one_models_images():
    calls = []

    def classify(batch, features):
        calls.append((len(batch), features["image"].shape[1]))
        return features["image"] * torch.stack([scale_of(task) for task in batch])[:, None], None

    given = tasks([3, 1, 5, 2], scales=[7, 7, 9, 7])
    models = ManyModels(("image",), CPU, classify, model=lambda task: float(scale_of(task)))
    for task, answer in zip(given, models.predict(given), strict=True):
        assert torch.equal(answer.logits, task.features["image"] * scale_of(task))
    assert sorted(calls) == [(2, 6)]


def test_many_images_are_not_held_at_once():
    """Answers come while later images are still to be read: a window of them at a time."""
    seen = []

    def classify(batch, features):
        seen.append(sum(task.images for task in batch))
        return features["image"], None

    given = tasks([IMAGES // 2] * 6)
    answers = ManyModels(("image",), CPU, classify).predict(given)
    next(answers)
    assert seen == [IMAGES]
    assert len(list(answers)) == 5


def test_neighbours_with_the_same_arrays_are_one_call():
    calls = []

    def predict(download, local, features):
        calls.append(len(features["image"]))
        return Prediction(features["image"] * download.arrays["scale"])

    given = tasks([3, 1, 5, 2])
    shared = given[0].download.arrays
    given[:3] = [replace(t, download=replace(t.download, arrays=shared)) for t in given[:3]]
    answers = list(with_one_model(given, sent_arrays, predict, ("image",)))
    assert calls == [9, 2]
    for task, answer in zip(given, answers, strict=True):
        assert torch.equal(answer.logits, task.features["image"] * scale_of(task))


@pytest.fixture
def world(clip):
    setting = small_setting(clip, None)
    data = {client: noise_images(clip, client, size) for client, size in SIZES.items()}
    return lambda name, **more: SmallFederation(method_class(name)(setting, **more), data)


def ask(world, method, state, local_states):
    planned = method.plan(state, world.clients, 3)
    return [
        PredictionTask(each, local_states.get(each.client), world.data[each.client].view())
        for each in planned
    ]


@pytest.mark.parametrize("name", ["promptfl", "pfedmoap", "fedavg_pt"])
def test_a_method_that_replaces_predict_alone_is_asked_alone(world, name):
    """A class from outside that knows nothing of the batched form must not be passed over."""
    small = world(name, **({"modality": "text"} if name == "fedavg_pt" else {}))
    base = type(small.method)

    @dataclass(frozen=True)
    class Reversed(base):
        def predict(self, download, local, features):
            return Prediction(-super().predict(download, local, features).logits)

    state, local_states, _ = small.rounds(1)
    fields = {name: getattr(small.method, name) for name in ("setting",)}
    if name == "fedavg_pt":
        fields["modality"] = "text"
    given = ask(small, small.method, state, local_states)
    plain = list(predictions(small.method, given))
    turned = list(predictions(Reversed(**fields), given))
    for one, other in zip(plain, turned, strict=True):
        torch.testing.assert_close(one.logits, -other.logits, atol=1e-4, rtol=0)


def test_a_method_that_replaces_classify_is_asked_alone(world):
    small = world("local_coop")

    @dataclass(frozen=True)
    class Reversed(type(small.method)):
        def classify(self, parts, features):
            return Prediction(-super().classify(parts, features).logits)

    state, local_states, _ = small.rounds(1)
    given = ask(small, small.method, state, local_states)
    turned = list(predictions(Reversed(small.method.setting), given))
    for one, other in zip(predictions(small.method, given), turned, strict=True):
        torch.testing.assert_close(one.logits, -other.logits, atol=1e-4, rtol=0)


def test_only_newcomers_are_planned_for_where_the_others_hold_what_they_need(world, monkeypatch):
    small = world("pfedmoap", experts=2)
    state, _, _ = small.rounds(2)
    asked = []
    plan = type(small.method).plan

    def noting(self, state, cohort, round):
        asked.append(list(cohort))
        return plan(self, state, cohort, round)

    monkeypatch.setattr(type(small.method), "plan", noting)
    newcomers = frozenset([small.clients[1]])
    found = plan_to_predict(small.method, state, small.clients, 3, newcomers)
    assert asked == [sorted(newcomers)]
    assert [each.client for each in found] == small.clients
    assert all("context" in each.arrays for each in found)

    @dataclass(frozen=True)
    class PlansOtherwise(type(small.method)):
        def plan(self, state, cohort, round):
            return super().plan(state, cohort, round)

    other = PlansOtherwise(small.method.setting, experts=2)
    plan_to_predict(other, state, small.clients, 3, newcomers)
    assert asked[1:] == [small.clients]


@dataclass(frozen=True)
class HalfWay(PromptFL):
    """Classifies half way between the global prompt and the client's own last one."""

    def divide(self, client):
        return replace(super().divide(client), local=dict(client.params))

    def prompt_of(self, download, local):
        own = download.arrays if local is None else local
        return {"context": (own["context"] + download.arrays["context"]) / 2}


def test_models_that_are_computed_for_each_task_are_not_taken_for_each_other(world):
    """Each one's memory is free again once its key is made, unless the key holds it."""
    small = world("promptfl")
    own = replace(small, method=HalfWay(small.method.setting))
    CHECKS["many clients are answered as each alone"](own)
