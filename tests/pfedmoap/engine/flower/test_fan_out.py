"""Batches of clients on nodes give what one process gives, bit for bit, ledgers included."""

import logging
from dataclasses import dataclass

import pytest
import torch
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from eval.contract.federation import CLASSES
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.contract.stacking import client_batches
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.engine.flower.actor_app import make_actor_app
from pfedmoap.engine.flower.fan_out import FanOut
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.parcels import data_record
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError, RunError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId
from privacy.central_options import Central
from privacy.options import DPSGD, Release
from tests.helpers.flower_grid import ID, MemoryGrid
from tests.helpers.small_federation import make_data

DATA = {ClientId(i): make_data(ClientId(i), size, 128) for i, size in enumerate([5, 3, 4])}
ROUNDS = Rounds(rounds=2)
PLAN = PlannedTraining(rounds=2, epochs=1, batch_size=4, clients=tuple(DATA))
OPTIONS = {
    "pfedmoap": {"experts": 1, "context_length": 2},
    "promptfl": {"context_length": 2},
    "pfpt": {"context_length": 2},
}
PRIVACY = {
    "none": NoPrivacy(),
    "dpsgd": DPSGD(epsilon=100, noise_multiplier=1.0, insecure_seed=3),
    "adaptive": DPSGD(epsilon=100, noise_multiplier=1.0, clipping="adaptive", insecure_seed=3),
    "release": Release(epsilon=100, noise_multiplier=1.0, insecure_seed=3),
    "central": Central(epsilon=100, noise_multiplier=1.0, insecure_seed=3),
}


def method_of(clip, name, size=2):
    training = Training(epochs=1, batch_size=4, learning_rate=0.05, clients_per_batch=size)
    return method_class(name)(Setting(clip, CLASSES, training), **OPTIONS[name])


@dataclass
class Actors:
    """Nodes that train batches, each with a method and a privatizer that it made by itself."""

    clip: object
    name: str
    privacy: object = PRIVACY["none"]
    size: int = 2
    made: int = 0

    def recipe(self):
        self.made += 1
        method = method_of(self.clip, self.name, self.size)
        return method, self.privacy.privatizer(method, PLAN, None)

    def fan_out(self, run, recipe=None):
        kinds = method_of(self.clip, self.name).features
        app = make_actor_app(
            run, recipe or self.recipe, lambda client: data_record(DATA[client], kinds)
        )
        self.grid = MemoryGrid(dict.fromkeys(range(1, len(DATA) + 1), app))
        return FanOut(Fleet(self.grid, 3, sleep=lambda _: None), lambda clients: self.size)


def run_with(clip, name, privacy, folder, train=None, size=2):
    method = method_of(clip, name, size)
    privatizer = privacy.privatizer(method, PLAN, folder / "ledgers")
    sections = {"rounds": {"rounds": 2}}
    run = RunDirectory.create(folder / "run", sections, {}, resume=False, divided=True)
    more = {} if train is None else {"train": train}
    return run_federation(method, DATA, ROUNDS, 0, privatizer, run=run, **more), run, method


def without_times(records):
    return [{k: v for k, v in record.items() if k != "train_seconds"} for record in records]


def assert_same(found, expected, most=0.0):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=most)


@pytest.mark.parametrize(
    ("name", "privacy", "size"),
    [
        ("pfedmoap", "none", 1),
        ("promptfl", "none", 2),
        ("pfpt", "none", 2),
        ("pfedmoap", "dpsgd", 1),
        ("promptfl", "adaptive", 2),
        ("promptfl", "release", 2),
        ("promptfl", "central", 2),
    ],
)
def test_batches_on_nodes_give_what_one_process_gives(clip, name, privacy, size, tmp_path):
    actors, chosen = Actors(clip, name, PRIVACY[privacy], size), PRIVACY[privacy]
    fan_out = actors.fan_out(str(tmp_path))
    here, log, method = run_with(clip, name, chosen, tmp_path / "here", None, size)
    there, record, _ = run_with(clip, name, chosen, tmp_path / "there", fan_out.train, size)
    assert_same(method.to_arrays(there.state), method.to_arrays(here.state))
    assert there.local_states.keys() == here.local_states.keys()
    for client in here.local_states:
        assert_same(there.local_states[client], here.local_states[client])
    assert without_times(record.metrics()) == without_times(log.metrics())
    for file in sorted((tmp_path / "here" / "ledgers").glob("*")):
        assert (tmp_path / "there" / "ledgers" / file.name).read_bytes() == file.read_bytes()
    assert actors.made == 1, "a process makes its method once for all batches and rounds"


def test_experts_that_are_encoded_with_others_differ_by_rounding(clip, tmp_path):
    fan_out = Actors(clip, "pfedmoap").fan_out(str(tmp_path))
    here, _, method = run_with(clip, "pfedmoap", PRIVACY["none"], tmp_path / "here")
    there, _, _ = run_with(clip, "pfedmoap", PRIVACY["none"], tmp_path / "there", fan_out.train)
    assert_same(method.to_arrays(there.state), method.to_arrays(here.state), 1e-6)
    for client in DATA:
        assert_same(there.local_states[client], here.local_states[client], 1e-6)


def test_ledgers_are_charged_before_a_batch_is_sent(clip, tmp_path):
    actors = Actors(clip, "promptfl", PRIVACY["dpsgd"])
    found = []
    fan_out = actors.fan_out(str(tmp_path))
    push = actors.grid.push_messages

    def looked(messages):
        found.append({f.name: f.read_text() for f in (tmp_path / "ledgers").glob("*")})
        return push(messages)

    actors.grid.push_messages = looked
    run_with(clip, "promptfl", PRIVACY["dpsgd"], tmp_path, fan_out.train)
    assert len(found) == 2
    for round, ledgers in enumerate(found, 1):
        charged = [text for text in ledgers.values() if f'"round": {round}' in text]
        assert len(charged) == len(DATA), (round, ledgers)


def test_a_charged_step_is_taken_in_one_place_only(clip):
    actors = Actors(clip, "promptfl", PRIVACY["dpsgd"])
    method, here = actors.recipe()
    _, there = actors.recipe()
    here.authorise([ClientId(0), ClientId(1)], 1, {})
    steps = here.hand_over([ClientId(0)], 1)
    assert steps[ClientId(0)] > 0
    assert here.hand_over([ClientId(0)], 1) == {ClientId(0): 0}
    there.take_over(steps, 1)
    tasks = _tasks(method, [ClientId(0), ClientId(1)])
    method.train(tasks[:1], there)
    with pytest.raises(PrivacyError, match="not charged for"):
        method.train(tasks[:1], there)
    with pytest.raises(PrivacyError, match="not charged for"):
        method.train(tasks[:1], here)
    method.train(tasks[1:], here)


def _tasks(method, clients):
    return [
        ClientTask(download, None, DATA[download.client])
        for download in method.plan(method.init(), clients, 1)
    ]


def test_a_batch_that_fails_ends_the_run(clip, tmp_path):
    actors = Actors(clip, "promptfl")
    fan_out = actors.fan_out(str(tmp_path))
    failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no memory is left")
    actors.grid.meddle = lambda reply: failed(reply, failure)
    with pytest.raises(RunError, match=r"round 1: a batch of 2 clients.*no memory is left.*resume"):
        run_with(clip, "promptfl", PRIVACY["none"], tmp_path, fan_out.train)


def failed(reply, failure):
    """What Flower answers where an actor has raised an error."""
    wrong = Message(RecordDict(), reply.metadata.src_node_id, "train")
    vars(wrong.metadata)[ID] = reply.metadata.reply_to_message_id
    return Message(failure, reply_to=wrong)


def test_nothing_is_logged_of_a_secret_cohort(clip, tmp_path, caplog):
    actors = Actors(clip, "promptfl", PRIVACY["central"])

    def recipe():
        method, privatizer = actors.recipe()
        return Talks(method), privatizer

    fan_out = actors.fan_out(str(tmp_path), recipe)
    before = logging.root.manager.disable
    run_with(clip, "promptfl", PRIVACY["central"], tmp_path / "central", fan_out.train)
    assert "of client" not in caplog.text
    assert logging.root.manager.disable == before
    fan_out = actors.fan_out("another", recipe)
    run_with(clip, "promptfl", PRIVACY["none"], tmp_path / "none", fan_out.train)
    assert "of client 2" in caplog.text


@dataclass
class Talks:
    method: object

    def train(self, tasks, privatizer):
        for task in tasks:
            logging.getLogger("tests").warning("of client %d", task.download.client)
        return self.method.train(tasks, privatizer)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_are_those_that_one_process_trains(clip, size):
    actors = Actors(clip, "promptfl", size=size)
    method = method_of(clip, "promptfl")
    fan_out = actors.fan_out(f"batches of {size}")
    results = fan_out.train(method, _tasks(method, list(DATA)), NoPrivacy())
    assert len(actors.grid.answered) == len(list(client_batches(_tasks(method, [*DATA]), size)))
    assert [result.update.client for result in results] == list(DATA)
