"""A private run killed at every point: no upload without its charge, and none forgotten."""

import json
import shutil

import pytest

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.engine import simulation as engine
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.transport import InProcess
from privacy.options import DPSGD, Release

ROUNDS = 3
PLAN = PlannedTraining(rounds=ROUNDS, epochs=1, batch_size=3)


class Killed(BaseException):
    """Stands for the process being killed."""


class World:
    """A run directory, a count of what left each client, and a place to be killed at."""

    def __init__(self, folder, method, data, options, monkeypatch):
        self.folder, self.method, self.data, self.options = folder, method, data, options
        self.left = dict.fromkeys(data, 0)
        self.calls, self.kill_at = 0, None
        world = self

        class Wire(InProcess):
            def down(self, download):
                world.point()
                return super().down(download)

            def up(self, update):
                world.point()
                world.left[update.client] += 1
                charges = world.charges(update.client)
                assert charges >= world.left[update.client], "an upload left before its charge"
                world.point()
                return super().up(update)

        monkeypatch.setattr(engine, "InProcess", Wire)
        real = RunDirectory.save

        def save(run, *arguments):
            world.point()
            real(run, *arguments)
            world.point()

        monkeypatch.setattr(RunDirectory, "save", save)

    def point(self):
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed

    def charges(self, client):
        file = self.folder / "ledgers" / f"{client:04d}.json"
        runs = json.loads(file.read_text())["runs"] if file.exists() else []
        return sum(len(run["charges"]) for run in runs)

    def go(self):
        privatizer = self.options.privatizer(self.method, PLAN, self.folder / "ledgers")
        run = RunDirectory(self.folder)
        run_federation(self.method, self.data, Rounds(ROUNDS), 0, privatizer, run=run)
        return run.metrics()


@pytest.fixture(params=["dpsgd", "release"])
def options(request):
    return {"dpsgd": DPSGD(sample_rate=0.5), "release": Release()}[request.param]


@pytest.fixture
def world(tmp_path, setting, data, options, monkeypatch):
    method = method_class("pfedmoap")(setting, context_length=4)
    return World(tmp_path, method, data, options, monkeypatch)


@pytest.mark.parametrize("kill_at", [1, 3, 4, 5, 6, 9, 10, 11, 12, 14, 16])
def test_a_kill_can_only_over_count(world, kill_at):
    world.kill_at = kill_at
    with pytest.raises(Killed):
        world.go()
    at_kill = {client: world.charges(client) for client in world.data}
    world.kill_at = None
    records = world.go()
    assert [record["round"] for record in records] == [1, 2, 3]
    for client in world.data:
        assert world.charges(client) >= max(at_kill[client], world.left[client])
        assert world.charges(client) <= ROUNDS  # the budget of the whole plan is not overspent
    interrupted = kill_at not in (11, 22)  # killed after the commit: nothing is run again
    sat_out = [client for record in records for client in record["sat_out"]]
    assert bool(sat_out) == interrupted
    assert all(
        spent <= world.options.epsilon for record in records for spent in record["epsilon"].values()
    )


def test_an_undisturbed_run_charges_each_round_once(world):
    records = world.go()
    assert world.calls == 11 * ROUNDS  # 3 down, 2 x 3 up, 2 around each checkpoint
    assert all(world.charges(client) == ROUNDS for client in world.data)
    assert all(not record["sat_out"] for record in records)
    spent = [record["epsilon"]["0"] for record in records]
    assert sorted(spent) == spent
    assert spent[-1] == pytest.approx(8, abs=0.1)


def test_a_lost_ledger_stops_the_run(world):
    world.kill_at = 12
    with pytest.raises(Killed):
        world.go()
    (world.folder / "ledgers" / "0001.json").unlink()
    world.kill_at = None
    with pytest.raises(PrivacyError, match="client 1 took part"):
        world.go()


def test_a_ledger_of_an_earlier_round_stops_the_run(world):
    """A copy from a backup, or a folder that was synchronised: it is whole, but old."""
    ledgers, kept = world.folder / "ledgers", world.folder / "kept"
    world.kill_at = 12  # round 1 is complete, round 2 is charged
    with pytest.raises(Killed):
        world.go()
    shutil.copytree(ledgers, kept)
    world.kill_at = 23  # round 2 is complete
    with pytest.raises(Killed):
        world.go()
    shutil.copy(kept / "0001.json", ledgers / "0001.json")
    world.kill_at = None
    with pytest.raises(PrivacyError, match=r"client 1 took part before round 3, .*rolled back"):
        world.go()
