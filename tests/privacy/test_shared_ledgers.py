"""Several runs on the same people: one budget, whatever their mechanisms."""

import json
from dataclasses import replace

import pytest

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId
from privacy.central_options import Central
from privacy.ledgers.authorisation import charge_cohort
from privacy.ledgers.composition import Steps, composed_epsilon
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.mechanisms.central import EVERYBODY
from privacy.options import DPSGD, Release

PLAN = PlannedTraining(rounds=2, epochs=1, batch_size=3)
ONE = ClientId(1)


def ledgers(noise, folder, shared, epsilon=4.0, **mechanism):
    """Ledgers of plain releases, without an accountant of their own in the way."""
    mechanism = {
        "name": "x",
        "unit": "client",
        "delta": 1e-5,
        "noise_multiplier": noise,
    } | mechanism

    def spent(units):
        return composed_epsilon((Steps(noise, 1.0, units),), 1e-5)

    return Ledgers(Budget(epsilon, mechanism, spent, 1), folder, shared)


@pytest.fixture
def shared(tmp_path):
    return tmp_path / "people"


def test_runs_with_different_noise_stay_within_one_budget(tmp_path, shared):
    first, second = ledgers(3.0, tmp_path / "a", shared), ledgers(4.0, tmp_path / "b", shared)
    assert first.charge(ONE, 1) == pytest.approx(composed_epsilon((Steps(3.0, 1.0, 1),), 1e-5))
    both = composed_epsilon((Steps(3.0, 1.0, 1), Steps(4.0, 1.0, 1)), 1e-5)
    assert second.charge(ONE, 1) == pytest.approx(both)
    assert first.spent(ONE) == second.spent(ONE) == pytest.approx(both)
    assert second.spent(ClientId(2)) == 0
    charged = [run.charge(ONE, round) for round in range(2, 20) for run in (first, second)]
    paid = [epsilon for epsilon in charged if epsilon is not None]
    assert None in charged
    assert max(paid) <= 4.0
    assert paid == sorted(paid)
    assert first.spent(ONE) == max(paid)


def test_a_run_that_goes_on_goes_on_in_its_own_account(tmp_path, shared):
    ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)
    ledgers(4.0, tmp_path / "b", shared).charge(ONE, 1)
    ledgers(3.0, tmp_path / "a", shared).charge(ONE, 2)
    runs = json.loads((shared / "0001.json").read_text())["runs"]
    assert sorted(len(run["charges"]) for run in runs) == [1, 2]
    assert [run["mechanism"]["noise_multiplier"] for run in runs] == [4.0, 3.0]  # the last is last
    assert not (tmp_path / "a" / "0001.json").exists()


def test_a_run_that_lost_its_id_is_counted_as_another_one(tmp_path, shared):
    ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)
    (tmp_path / "a" / "run.json").unlink()
    spent = ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)
    assert spent == pytest.approx(composed_epsilon((Steps(3.0, 1.0, 2),), 1e-5))


@pytest.mark.parametrize("content", ["", "{}", '{"run": 3}', '{"run": "a", "more": 1}'])
def test_a_damaged_id_is_refused(tmp_path, shared, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(content)
    with pytest.raises(PrivacyError, match=r"run\.json is damaged"):
        ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)


def test_a_run_in_memory_charges_the_people_all_the_same(shared):
    ledgers(3.0, None, shared).charge(ONE, 1)
    assert len(ledgers(4.0, None, shared).charges(ONE)) == 1


def test_a_cap_on_rounds_counts_those_of_the_run_alone(tmp_path, shared):
    for round in (1, 2):
        ledgers(30.0, tmp_path / "a", shared).charge(ONE, round)
    second = ledgers(40.0, tmp_path / "b", shared)
    second.budget = replace(second.budget, rounds=1)
    assert charge_cohort(second, [ONE], 1, {}).allowed == (ONE,)
    assert "max_rounds_per_client is 1" in charge_cohort(second, [ONE], 2, {ONE: 3}).sat_out[ONE]


def test_different_units_are_not_added_up(tmp_path, shared):
    ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)
    with pytest.raises(PrivacyError, match="different units"):
        ledgers(3.0, tmp_path / "b", shared, unit="example").charge(ONE, 1)
    assert len(ledgers(3.0, tmp_path / "a", shared).charges(ONE)) == 1


@pytest.mark.parametrize("other", [ClientId(2), EVERYBODY])
def test_different_units_are_not_kept_in_one_folder_under_different_names(tmp_path, shared, other):
    ledgers(3.0, tmp_path / "a", shared).charge(ONE, 1)
    second = ledgers(3.0, tmp_path / "b", shared, unit="example")
    with pytest.raises(PrivacyError, match="different units"):
        second.charge(other, 1)
    assert sorted(file.name for file in shared.glob("*.json")) == ["0001.json"]
    assert ledgers(3.0, tmp_path / "c", shared).charge(other, 1) is not None


@pytest.mark.parametrize("private", [DPSGD(), Release()])
@pytest.mark.parametrize("server_first", [True, False])
def test_the_server_and_its_clients_do_not_charge_one_folder(
    tmp_path, setting, private, shared, server_first
):
    method, plan = (
        method_class("promptfl")(setting, context_length=4),
        replace(PLAN, clients=(ONE,)),
    )
    runs = [
        replace(options, ledgers=str(shared)).privatizer(method, plan, tmp_path / str(number))
        for number, options in enumerate((Central(), private))
    ]
    first, second = runs if server_first else reversed(runs)
    assert first.authorise([ONE], 1, {}).allowed == (ONE,)
    with pytest.raises(PrivacyError, match="different units"):
        second.authorise([ONE], 1, {})
    assert first.authorise([ONE], 2, {}).allowed == (ONE,)


def test_what_another_run_charged_is_missed_when_it_is_gone(tmp_path, shared):
    """The checkpoint knows how long the ledger was, not only its own part of it."""
    run = ledgers(3.0, tmp_path / "a", shared)
    run.charge(ONE, 1)
    earlier = (shared / "0001.json").read_text()
    ledgers(4.0, tmp_path / "b", shared).charge(ONE, 1)
    assert len(run.charges(ONE)) == 2
    (shared / "0001.json").write_text(earlier)
    with pytest.raises(PrivacyError, match="rolled back"):
        ledgers(3.0, tmp_path / "a", shared).refuse_older({ONE: 2}, (), 2)


@pytest.mark.parametrize("private", [DPSGD(sample_rate=0.5, epsilon=4.0), Release(epsilon=4.0)])
def test_two_runs_of_the_engine_share_a_budget(tmp_path, setting, data, private, shared):
    """The second one, planned for all of the budget alone, cannot take part to its end."""
    method = method_class("promptfl")(setting, context_length=4)
    records = []
    for name, planned in (("a", PLAN), ("b", PlannedTraining(1, 1, 3))):
        out = tmp_path / name
        options = type(private)(**{**vars(private), "ledgers": str(shared)})
        privatizer = options.privatizer(method, planned, out / "ledgers")
        run = RunDirectory.create(out, {"run": name}, {}, resume=False)
        run_federation(method, data, Rounds(planned.rounds), 0, privatizer, run=run)
        records += run.metrics()
    assert [len(record["cohort"]) for record in records] == [3, 3, 0]
    assert all("privacy budget" in why for why in records[2]["sat_out"].values())
    assert sorted(file.name for file in shared.glob("0*.json")) == [
        "0000.json",
        "0001.json",
        "0004.json",
    ]
