"""States by cohort: exact, shared pieces once, little room and memory, the same when reopened."""

import os
import random
import tracemalloc
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from pfedmoap.errors import RunError
from pfedmoap.runs import checkpoint as checkpoints
from pfedmoap.runs.client_states import ClientStates, open_states
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.manifest import Manifest, shard_file
from pfedmoap.runs.shard_writer import StateWriter
from pfedmoap.runs.state_content import from_content, pieces_of, to_content
from pfedmoap.wire.messages import ClientId
from tests.helpers.earlier_runs import write_earlier_run

STATES = {
    "all kinds": {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4, 5),
        "many_empty_rows": torch.zeros(4, 0, 5),
        "bf16": torch.randn(40, 40).bfloat16(),
        "half": torch.randn(3, 20, 20).half(),
        "bool": torch.rand(50, 50) > 0.5,
        "wide": torch.randn(2000),
        "not_contiguous": torch.randn(30, 40, 2).mT[::2],
        "thin_rows": torch.arange(3000).view(1000, 3, 1),
        "nan": torch.full((600,), torch.nan),
    },
    "nothing": {},
    "small": {"steps": torch.tensor([1, 2])},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_state_is_the_same_after_being_divided(state):
    content = to_content(state)
    assert set(pieces_of(content.record)) == set(content.pieces)
    found = from_content(content.record, {d: bytes(p) for d, p in content.pieces.items()})
    assert set(found) == set(state)
    for name, array in state.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert torch.equal(found[name].nan_to_num(7), array.nan_to_num(7))


class World:
    """Clients that hold each other's prompts, as the mixture's do."""

    def __init__(self, folder, clients, seed=0):
        self.layout, self.draw = Layout(folder, divided=False), random.Random(seed)
        self.rng = torch.Generator().manual_seed(seed)
        self.clients, self.round, self.sums = clients, 0, {}
        self.prompts = {}
        self.truth = {}
        self.writer = StateWriter.over(ClientStates(self.layout))

    def train(self, count):
        """One round; returns the bytes that it wrote."""
        self.round += 1
        cohort = sorted(self.draw.sample(range(self.clients), count))
        changed = {}
        for client in map(ClientId, cohort):
            others = self.draw.sample(sorted(self.prompts), min(3, len(self.prompts)))
            changed[client] = {"context": torch.randn(8, 32, generator=self.rng)} | (
                {"experts": torch.stack([self.prompts[other] for other in others])}
                if others
                else {}
            )
        self.prompts |= {client: state["context"] for client, state in changed.items()}
        self.truth |= changed
        file = shard_file(self.round)
        written = self.writer.write(self.layout, file, self.round, changed.items())
        for old in set(self.writer.states.files) - set(written.writer.states.files):
            self.layout.where(old).unlink()
        self.writer, self.sums = written.writer, {**self.sums, **written.checksums}
        return self.layout.where(file).stat().st_size

    def reopened(self):
        manifest = Manifest(self.round, "x", self.writer.states.files, sha256=self.sums)
        return StateWriter.over(open_states(self.layout, manifest))

    @property
    def disk(self):
        return sum(file.stat().st_size for file in (self.layout.run / "clients").iterdir())


def same(found, expected):
    assert list(found) == sorted(expected)
    for client, state in expected.items():
        assert {n: a.tolist() for n, a in found[client].items()} == {
            n: a.tolist() for n, a in state.items()
        }


def test_rounds_take_little_room_and_lose_nothing(tmp_path):
    world = World(tmp_path, 40)
    sizes = [world.train(8) for _ in range(60)]
    same(world.writer.states, world.truth)
    distinct = {digest for state in world.truth.values() for digest in to_content(state).pieces}
    assert world.disk < 2.6 * 1024 * len(distinct)
    assert max(sizes[20:]) < 2.2 * 1024 * 8 * 1.5, "a round moves no more than it writes"


@pytest.mark.parametrize("clients", [1, 40])
def test_a_cohort_costs_one_write_and_two_flushes_whatever_its_size(clients, tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        noted = partial(lambda name, real, *given: (calls.append(name), real(*given)), name, real)
        monkeypatch.setattr(os, name, noted)
    World(tmp_path, clients).train(clients)
    assert calls == ["fsync", "replace", "fsync"]


def test_a_reopened_writer_counts_and_writes_the_same(tmp_path):
    one, two = World(tmp_path / "one", 12), World(tmp_path / "two", 12)
    for _ in range(12):
        one.train(3)
        two.train(3)
        two.writer = two.reopened()
        assert (one.writer.uses, one.writer.live) == (two.writer.uses, two.writer.live)
    same(two.writer.states, two.truth)
    files = [
        {f.name: f.read_bytes() for f in (w.layout.run / "clients").iterdir()} for w in (one, two)
    ]
    assert files[0] == files[1]
    assert len(files[0]) < 12


def test_what_many_clients_hold_is_stored_once(tmp_path):
    experts = torch.randn(5, 16, 64)
    states = {
        ClientId(client): {"experts": experts[torch.randperm(5)], "context": experts[client % 5]}
        for client in range(50)
    }
    writer = StateWriter.over(ClientStates(Layout(tmp_path, divided=False)))
    file = shard_file(1)
    written = writer.write(Layout(tmp_path, divided=False), file, 1, states.items()).writer
    same(written.states, states)
    content = load_file(tmp_path / file)  # a plain safetensors file
    assert sum(array.numel() == 16 * 64 * 4 for array in content.values()) == 5
    assert (tmp_path / file).stat().st_size < 5 * 16 * 64 * 4 + 50 * 1200


def saved(path, clients, rounds):
    """A run of the present version."""
    run = RunDirectory.create(path, {"method": "x"}, {"classes": 2}, resume=False)
    for round, cohort in enumerate(rounds, 1):
        checkpoint = Checkpoint(round, {"a": torch.ones(2)}, clients, {ClientId(0): round})
        run.save(checkpoint, tuple(cohort), {"round": round, "cohort": list(cohort)})
    return run


@pytest.mark.parametrize("sealed", [True, False])
def test_a_run_with_a_file_for_each_client_is_read_and_goes_on(tmp_path, monkeypatch, sealed):
    clients = {ClientId(i): {"context": torch.full((20, 30), 1.0 * i)} for i in range(5)}
    saved(tmp_path, clients, [range(5), (1, 3)])
    rounds = {0: 1, 1: 2, 2: 1, 3: 2, 4: 1}
    states = {client: (rounds[client], clients[client]) for client in clients}
    write_earlier_run(tmp_path, 2, {"a": torch.ones(2)}, states, sealed=sealed)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    same(RunDirectory(tmp_path).load().local_states, clients)
    assert torch.equal(
        RunDirectory(tmp_path).load_client(ClientId(3))["context"], clients[3]["context"]
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before, "only read"
    monkeypatch.setattr(checkpoints, "GROUP_BYTES", 4900)  # two clients a shard
    run = RunDirectory(tmp_path)
    same(run.resume().local_states, clients)
    names = [f"shard-000002-000{part}.safetensors" for part in range(3)]
    assert sorted(file.name for file in (tmp_path / "clients").iterdir()) == names
    assert {c: run.local_states.entry(c)[1].round for c in clients} == rounds
    assert RunDirectory(tmp_path).load().charges == {0: 2}
    later = {**clients, ClientId(2): {"context": torch.zeros(3)}}
    run.save(Checkpoint(3, {"a": torch.ones(2)}, later), (ClientId(2),), {"round": 3})
    same(RunDirectory(tmp_path).resume().local_states, later)


def test_a_damaged_run_of_an_earlier_version_is_refused_before_anything_is_moved(tmp_path):
    clients = {ClientId(i): {"context": torch.full((20, 30), 1.0 * i)} for i in range(3)}
    saved(tmp_path, clients, [range(3)])
    states = {client: (1, state) for client, state in clients.items()}
    write_earlier_run(tmp_path, 1, {"a": torch.ones(2)}, states)
    file = tmp_path / "clients/0001/round-000001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    with pytest.raises(RunError, match=r"0001.* is damaged"):
        RunDirectory(tmp_path).resume()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


class Read(dict):
    """States that are made when they are asked for, and remember whose were."""

    def __init__(self, bytes_each):
        self.bytes_each, self.asked = bytes_each, []

    def __getitem__(self, client):
        self.asked.append(client)
        return {"context": torch.full((self.bytes_each // 4,), float(client))}


def test_memory_for_clients_outside_the_cohort_does_not_hold_their_states(tmp_path):
    """2,000 clients with 20 KB each: at most 4 KB a client stay; a round reads its own alone."""
    clients, states = [ClientId(client) for client in range(2000)], Read(20_000)
    run = RunDirectory.create(tmp_path, {}, {}, resume=False)
    for round in range(1, 11):
        cohort = tuple(clients[round - 1 :: 10])
        run.save(Checkpoint(round, {}, states), cohort, {"round": round})
    assert states.asked == [client for round in range(10) for client in clients[round::10]]
    tracemalloc.start()
    saved = RunDirectory(tmp_path).resume()
    assert len(saved.local_states) == 2000
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4_000 * 2000
    assert float(saved.local_states[ClientId(1234)]["context"][-1]) == 1234
    states.asked.clear()
    fresh = replace(saved, round=11, local_states=states)
    run.save(fresh, (ClientId(7),), {"round": 11})
    assert states.asked == [7]
    assert len(list((tmp_path / "clients").iterdir())) == 11
