"""Which clients share a step, how long it is kept, and what happens where there can be none."""

import copy
import logging
import pickle
from dataclasses import dataclass, replace

import pytest
import torch

from pfedmoap.client.device_step import PlainStep
from pfedmoap.client.local_training import Stepping, Training, train_locally
from pfedmoap.client.optimisers import SGD
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.static_step import Start, Stepwise
from pfedmoap.client.step_cache import StepCache
from pfedmoap.contract.stacking import cohort_of
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import Download
from tests.helpers.models import CLASS_NAMES, random_data

LENGTH = 4


@pytest.fixture
def problem(clip):
    return PromptProblem(clip.prompt_encoder(CLASS_NAMES, LENGTH), clip.logit_scale)


def start_of(problem, sizes=(4, 4), width=4):
    context = torch.randn(LENGTH, 32)
    tasks = [
        ClientTask(Download(1, client, {"context": context}), None, own)
        for client, own in random_data(list(sizes)).items()
    ]
    chosen = cohort_of(tasks, 0, torch.device("cpu"))
    params = {"context": context.expand(len(sizes), -1, -1)}
    plan = NoPrivacy().batches(chosen.sizes, 1, chosen.streams, 1, width)
    return Start(problem, params, SGD().init(params), plan, chosen.data)


def stepwise(momentum=0.9, rate=0.1):
    return Stepwise(PlainStep(), SGD(momentum), {"context": rate})


def test_equal_shapes_share_a_step_and_others_do_not(problem, clip):
    steps = StepCache()
    first = steps.find(start_of(problem), stepwise(), most=4)
    assert steps.find(start_of(problem, (3, 4)), stepwise(), most=4) is first
    anchor = torch.zeros(2, LENGTH, 32)
    others = [
        steps.find(start_of(problem, (4, 4, 4)), stepwise(), most=4),
        steps.find(start_of(problem, (8, 8), 8), stepwise(), most=4),
        steps.find(start_of(problem), stepwise(momentum=0.5), most=4),
        steps.find(start_of(problem), stepwise(rate=0.2), most=4),
        steps.find(start_of(replace(problem, scale=1.0)), stepwise(), most=4),
        steps.find(start_of(replace(problem, proximal=0.1, anchor=anchor)), stepwise(), most=4),
        steps.find(start_of(problem), stepwise(), most=4, options="tf32"),
    ]
    assert len({id(step) for step in (first, *others)}) == 8
    assert steps.find(start_of(problem), stepwise(), most=4) is first


def test_the_anchor_of_later_clients_is_read(problem):
    """Two batches of clients whose problems differ in their rows alone go through one step."""
    steps = StepCache()
    for _ in range(2):
        anchored = replace(problem, proximal=0.5, anchor=torch.randn(2, LENGTH, 32))
        start = start_of(anchored)
        found = steps.find(start, stepwise(), most=2).run(start)
        expected = StepCache().find(start, stepwise(), most=2).run(start)
        assert torch.equal(found.params["context"], expected.params["context"])
    assert len(steps) == 1


def test_the_least_recently_used_step_makes_room(problem):
    steps = StepCache(most=2)
    first = steps.find(start_of(problem), stepwise(), most=4)
    steps.find(start_of(problem, (8, 8), 8), stepwise(), most=4)
    assert steps.find(start_of(problem), stepwise(), most=4) is first
    steps.find(start_of(problem, (12, 12), 12), stepwise(), most=4)
    assert len(steps) == 2
    assert steps.find(start_of(problem), stepwise(), most=4) is first


def test_a_copy_is_empty(problem):
    steps = StepCache()
    steps.find(start_of(problem), stepwise(), most=4)
    assert [len(each) for each in (copy.deepcopy(steps), pickle.loads(pickle.dumps(steps)))] == [
        0,
        0,
    ]


def run(problem, steps, params=None):
    start = start_of(problem)
    tasks = [
        ClientTask(Download(1, client, {}), None, own)
        for client, own in random_data([4, 4]).items()
    ]
    return train_locally(
        problem,
        start.params if params is None else params,
        cohort_of(tasks, 0, torch.device("cpu")),
        Stepping(
            Training(epochs=1, batch_size=4, graphs=True),
            {"context": 0.1},
            NoPrivacy(),
            steps=steps,
        ),
    ).params["context"]


def test_what_cannot_be_in_a_step_runs_plainly_and_is_said_once(problem, caplog):
    """A function made for one batch of clients may carry their tensors along."""
    steps, params = StepCache(), start_of(problem).params
    moved = torch.zeros(2, LENGTH, 32)
    closed = replace(problem, compose=lambda parts: parts["context"] + moved)
    with caplog.at_level(logging.WARNING):
        found = [run(closed, steps, params) for _ in range(2)]
    assert torch.equal(found[0], run(problem, StepCache(), params))
    assert torch.equal(found[0], found[1])
    (record,) = caplog.records
    assert "PromptProblem are not captured" in record.getMessage()
    assert "'compose' is a function made for one batch" in record.getMessage()


class Waits(PromptProblem):
    """Reads a value on the host, which a capture refuses; here it fails in every static step."""

    def penalty(self, params):
        if params["context"].is_leaf and not params["context"].abs().sum():
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().penalty(params)


def test_a_failed_capture_falls_back_with_one_line(problem, caplog):
    """The buffers are zero when a step is prepared, the clients' own prompts are not."""
    steps, params = StepCache(), start_of(problem).params
    failing = Waits(problem.encoder, problem.scale)
    with caplog.at_level(logging.WARNING):
        found = [run(failing, steps, params) for _ in range(2)]
    assert torch.equal(found[0], run(problem, StepCache(), params))
    assert torch.equal(found[0], found[1])
    (record,) = caplog.records
    assert "not permitted when stream is capturing" in record.getMessage()


def test_a_problem_that_waits_for_the_device_is_captured_on_no_gpu(problem, caplog):
    """A capture that fails costs a graph's memory; on a CPU nothing waits."""

    @dataclass(frozen=True)
    class Waits(PromptProblem):
        waits: str | None = "its sequences are cut"

    waiting = Waits(problem.encoder, problem.scale)
    steps = StepCache()
    assert steps.find(start_of(waiting), stepwise(), most=4) is not None
    start = start_of(waiting)
    labels = start.data.labels.to("meta")
    there = replace(start, data=replace(start.data, labels=labels))
    with caplog.at_level(logging.WARNING):
        assert steps.find(there, stepwise(), most=4) is None
    assert "its sequences are cut" in caplog.text
