"""A central run killed at every point: no state without its charge, and none forgotten."""

from dataclasses import replace

import pytest

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.engine import simulation as engine
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.transport import InProcess
from privacy.central_options import Central
from privacy.ledgers.ledger_file import read_accounts, write_accounts
from privacy.mechanisms.central import EVERYBODY, CentralPrivacy
from tests.helpers.training_steps import SIZES

ROUNDS = 3
PLAN = PlannedTraining(ROUNDS, 1, 3, participation=1.0, clients=tuple(SIZES))


class Killed(BaseException):
    """Stands for the process being killed."""


class World:
    """A run directory, a count of noisy means that were formed, and a place to be killed at."""

    def __init__(self, folder, method, data, monkeypatch):
        self.folder, self.method, self.data = folder, method, data
        self.formed = self.calls = 0
        self.kill_at = None
        world = self

        class Wire(InProcess):
            def up(self, update):
                world.point()
                return super().up(update)

        monkeypatch.setattr(engine, "InProcess", Wire)
        settle, save = CentralPrivacy.settle, RunDirectory.save

        def settling(privacy, *arguments):
            world.point()
            found = settle(privacy, *arguments)
            world.formed += len(found)
            assert world.charges() >= world.formed, "a mean was formed before its charge"
            world.point()
            return found

        def saving(run, *arguments):
            world.point()
            save(run, *arguments)
            world.point()

        monkeypatch.setattr(CentralPrivacy, "settle", settling)
        monkeypatch.setattr(RunDirectory, "save", saving)

    def point(self):
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed

    @property
    def ledger(self):
        (file,) = (self.folder / "ledgers").glob("*.json")
        return file

    def charges(self):
        return sum(len(one.charges) for one in read_accounts(self.ledger, EVERYBODY))

    def go(self, **options):
        privacy = Central(**options).privatizer(self.method, PLAN, self.folder / "ledgers")
        run = RunDirectory(self.folder)
        run_federation(self.method, self.data, Rounds(ROUNDS), 0, privacy, run=run)
        return run.metrics()


@pytest.fixture
def world(tmp_path, setting, data, monkeypatch):
    return World(tmp_path, method_class("promptfl")(setting), data, monkeypatch)


@pytest.mark.parametrize("kill_at", range(1, 22))
def test_a_kill_can_only_over_count(world, kill_at):
    world.kill_at = kill_at
    with pytest.raises(Killed):
        world.go()
    at_kill, world.kill_at = world.charges(), None
    records = world.go()
    assert [record["round"] for record in records] == [1, 2, 3]
    assert world.formed <= world.charges() <= ROUNDS
    assert world.charges() >= at_kill
    committed = kill_at in (7, 14, 21)  # after the manifest: nothing is run again
    assert bool(records[-1]["sat_out"]) == (not committed)
    spent = [max(record["epsilon"].values(), default=0) for record in records]
    assert max(spent) <= 8
    if not committed:  # the lost round is paid for, and the last one is not made
        assert spent[-1] == 0
        assert records[-1]["privacy"]["releases"] == ROUNDS - 1


def test_an_undisturbed_run_charges_each_round_once(world):
    records = world.go()
    assert world.calls == 7 * ROUNDS  # 3 up, 2 around settling, 2 around each checkpoint
    assert world.charges() == world.formed == ROUNDS
    spent = [record["epsilon"]["0"] for record in records]
    assert spent == sorted(spent)
    assert 7 < spent[-1] <= 8


def test_an_older_ledger_than_the_state_stops_the_run(world):
    world.kill_at = 8  # in the second round, whose charge is on the disk
    with pytest.raises(Killed):
        world.go()
    (account,) = read_accounts(world.ledger, EVERYBODY)
    world.kill_at = None
    write_accounts(world.ledger, EVERYBODY, (replace(account, charges=()),))
    with pytest.raises(PrivacyError, match="made of 1 noisy means"):
        world.go()
    world.ledger.unlink()
    with pytest.raises(PrivacyError, match="made of 1 noisy means"):
        world.go()


def test_another_mechanism_cannot_go_on_with_the_ledger(world):
    world.kill_at = 8
    with pytest.raises(Killed):
        world.go()
    world.kill_at = None
    with pytest.raises(PrivacyError, match="max_update_norm"):
        world.go(max_update_norm=0.2)


def test_a_checkpoint_without_its_releases_is_refused(world):
    world.go()
    with pytest.raises(PrivacyError, match="does not say how many"):
        Central().privatizer(world.method, PLAN, None).server.restore({})


def test_runs_that_share_ledgers_stay_within_one_budget(setting, data, tmp_path):
    """Two runs on the same clients: the second finds the budget spent, and its state stands."""
    method = method_class("promptfl")(setting)
    shared = str(tmp_path / "shared")

    def go(name, **options):
        folder = tmp_path / name
        privacy = Central(ledgers=shared, **options).privatizer(method, PLAN, folder / "ledgers")
        run = RunDirectory(folder)
        run_federation(method, data, Rounds(ROUNDS), 0, privacy, run=run)
        return [max(record["epsilon"].values(), default=None) for record in run.metrics()]

    assert go("first", epsilon=4.0)[-1] == pytest.approx(4, abs=0.01)
    assert go("second", epsilon=4.0) == [None] * ROUNDS
    third = go("third", epsilon=9.0)  # with other noise; what is left suffices for some rounds
    assert 4 < third[0] <= 9
    assert third[-1] is None
