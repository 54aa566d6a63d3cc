"""The ledger: charged before, never refunded, never another one's, never overspent."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.authorisation import charge_cohort
from privacy.ledgers.ledger import LOCK, Budget, Ledgers

BUDGET = Budget(
    epsilon=1.0,
    mechanism={"name": "test", "delta": 1e-5, "sigma": 2.0},
    spent=lambda u: u / 10,
    units=4,
)
ONE, TWO = ClientId(1), ClientId(2)


@pytest.fixture(params=["files", "memory"])
def ledgers(request, tmp_path):
    return Ledgers(BUDGET, tmp_path / "ledgers" if request.param == "files" else None)


def test_charges_add_up_until_the_budget_is_spent(ledgers):
    assert ledgers.spent(ONE) == 0
    assert [ledgers.charge(ONE, round) for round in (1, 2, 3)] == [0.4, 0.8, None]
    assert ledgers.spent(ONE) == 0.8
    assert ledgers.spent(TWO) == 0
    assert [(charge.round, charge.units) for charge in ledgers.charges(ONE)] == [(1, 4), (2, 4)]


@pytest.mark.parametrize("epsilon", [math.nextafter(1.0, 2.0), math.inf, math.nan])
def test_not_a_bit_more_than_the_budget_is_spent(epsilon, tmp_path):
    exact, more = (replace(BUDGET, spent=lambda _, e=each: e) for each in (1.0, epsilon))
    assert Ledgers(more, tmp_path).charge(ONE, 1) is None
    assert Ledgers(more, tmp_path).charges(ONE) == ()
    assert Ledgers(exact, tmp_path).charge(ONE, 1) == 1.0


def test_a_round_that_is_run_again_is_charged_again(ledgers):
    ledgers.charge(ONE, 1)
    ledgers.charge(ONE, 1)
    assert ledgers.spent(ONE) == 0.8


def test_another_process_reads_what_was_spent(tmp_path):
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    assert Ledgers(BUDGET, tmp_path).spent(ONE) == 0.4
    assert json.loads((tmp_path / "0001.json").read_text()) == {
        "format": 2,
        "client": 1,
        "runs": [
            {
                "run": "this run",
                "epsilon": 1.0,
                "mechanism": BUDGET.mechanism,
                "charges": [{"round": 1, "units": 4, "epsilon": 0.4}],
            }
        ],
    }


def test_another_clients_ledger_is_refused(tmp_path):
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    (tmp_path / "0001.json").rename(tmp_path / "0002.json")
    with pytest.raises(PrivacyError, match="belongs to client 1, expected 2"):
        Ledgers(BUDGET, tmp_path).charge(TWO, 2)


def test_another_mechanisms_ledger_is_refused(tmp_path):
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    weaker = Budget(1.0, {"name": "test", "delta": 1e-5, "sigma": 9.0}, BUDGET.spent, 4)
    with pytest.raises(PrivacyError, match=r"another mechanism.*sigma"):
        Ledgers(weaker, tmp_path).charge(ONE, 2)


GOOD = {
    "format": 2,
    "client": 1,
    "runs": [
        {
            "run": "this run",
            "epsilon": 1.0,
            "mechanism": BUDGET.mechanism,
            "charges": [{"round": 1, "units": 4, "epsilon": 0.4}],
        }
    ],
}
TEXT = json.dumps(GOOD)
OLD = '{"client": 1, "mechanism": {"name": "test", "delta": 1e-5, "sigma": 2.0}, "charges": %s}'
DAMAGED = [
    "",
    "{",
    "[]",
    "{}",
    "null",
    "\xff",
    "[" * 10**5,
    OLD % "3",
    OLD % '[{"round": 1}]',
    OLD % '[{"round": 1, "units": -4, "epsilon": 0.4}]',
    OLD % '[{"round": 1, "units": 2.9, "epsilon": 0.4}]',
    OLD % '[{"round": 1, "units": 1e400, "epsilon": 0.4}]',
    *(
        TEXT.replace('"units": 4', f'"units": {value}')
        for value in ("1e400", "2.9", "4.0", "true", "NaN", "0", "-4", '"4"', "null")
    ),
    TEXT.replace('"units": 4', '"units": 1' + "0" * 400),
    TEXT.replace('"units": 4', '"units": 1' + "0" * 5000),
    TEXT.replace('"round": 1', '"round": 0'),
    TEXT.replace('"round": 1', '"round": 1.5'),
    TEXT.replace('"round": 1', '"round": 1, "round": 2'),
    TEXT.replace('"round": 1', '"round": 1, "refund": 4'),
    TEXT.replace('"round": 1, ', ""),
    TEXT.replace('"epsilon": 0.4', '"epsilon": Infinity'),
    TEXT.replace('"epsilon": 0.4', '"epsilon": -1'),
    TEXT.replace('"client": 1', '"client": true'),
    TEXT.replace('"client": 1', '"client": 1.0'),
    TEXT.replace('"format": 2', '"format": 3'),
    TEXT.replace('"runs": [', '"runs": [], "runs": ['),
    TEXT.replace('"sigma": 2.0', '"sigma": 1e999'),
    TEXT.replace('"sigma": 2.0', '"sigma": [2.0]'),
    TEXT.replace('"format": 2', '"format": 2.0'),
    *(
        TEXT.replace('"sigma": 2.0', f'"{name}": {value}')
        for name, values in {
            "noise_multiplier": ("1e-200", "5e-324", "1e200", "0", "-1", '"2"', "null", "true"),
            "sample_rate": ("1e-300", "0", "1.5", '"1"', "null"),
        }.items()
        for value in values
    ),
    *(
        TEXT.replace('"delta": 1e-05', f'"delta": {value}')
        for value in ("0", '"1e-5"', "0.6", "true")
    ),
    TEXT.replace('"delta": 1e-05, ', ""),
    json.dumps({**GOOD, "runs": GOOD["runs"] * 2}),
    json.dumps({**GOOD, "note": "more"}),
]


def test_each_damage_is_one():
    assert TEXT not in DAMAGED
    assert len(set(DAMAGED)) == len(DAMAGED)


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_ledger_is_refused(tmp_path, content):
    (tmp_path / "0001.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(PrivacyError, match="damaged"):
        Ledgers(BUDGET, tmp_path).charge(ONE, 2)
    assert (tmp_path / "0001.json").read_bytes() == content.encode("latin-1")


def test_a_ledger_of_an_earlier_format_is_read_and_charged_on(tmp_path):
    (tmp_path / "0001.json").write_text(OLD % '[{"round": 1, "units": 4, "epsilon": 0.4}]')
    assert Ledgers(BUDGET, tmp_path).charge(ONE, 2) == 0.8
    assert len(Ledgers(BUDGET, tmp_path).charges(ONE)) == 2


def test_a_client_that_took_part_needs_its_ledger(ledgers):
    with pytest.raises(PrivacyError, match="what was spent stays spent"):
        charge_cohort(ledgers, [ONE], 5, known={ONE: 1})
    assert charge_cohort(ledgers, [ONE], 5, known={}).allowed == (ONE,)
    assert charge_cohort(ledgers, [ONE], 6, known={ONE: 1}).allowed == (ONE,)


@pytest.mark.parametrize("client", [ONE, TWO])
def test_a_ledger_that_was_rolled_back_is_refused(tmp_path, client):
    """Whether or not its client is drawn in the round that finds it."""
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    earlier = (tmp_path / "0001.json").read_text()
    assert charge_cohort(Ledgers(BUDGET, tmp_path), [ONE], 2, {ONE: 1}).charges == {ONE: 2}
    (tmp_path / "0001.json").write_text(earlier)
    with pytest.raises(PrivacyError, match=r"held 2 charges; now it holds 1 .*rolled back"):
        charge_cohort(Ledgers(BUDGET, tmp_path), [client], 3, {ONE: 2})
    assert Ledgers(BUDGET, tmp_path).spent(TWO) == 0


def test_one_bad_ledger_charges_nobody(tmp_path):
    (tmp_path / "0002.json").write_text("{")
    ledgers = Ledgers(BUDGET, tmp_path)
    with pytest.raises(PrivacyError, match="damaged"):
        charge_cohort(ledgers, [ONE, TWO], 1, known={TWO: 1})
    assert ledgers.spent(ONE) == 0


def test_who_cannot_pay_sits_out_and_the_others_do_not(ledgers):
    ledgers.charge(ONE, 1)
    ledgers.charge(ONE, 2)
    result = charge_cohort(ledgers, [TWO, ONE], 3, known={ONE: 2})
    assert result.allowed == (TWO,)
    assert result.spent == {TWO: 0.4}
    assert "0.800 of epsilon 1" in result.sat_out[ONE]
    assert ledgers.spent(ONE) == 0.8


class Killed(BaseException):
    """Stands for the process being killed."""


@pytest.mark.parametrize("call", ["fdopen", "fsync", "chmod", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_writing_leaves_the_old_ledger_or_the_new_one(
    tmp_path, monkeypatch, call, after
):
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    real = getattr(os, call)

    def killed(*args, **options):
        if after:
            made = real(*args, **options)
            if made is not None:
                made.close()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        with pytest.raises(Killed):
            Ledgers(BUDGET, tmp_path).charge(ONE, 2)
    assert Ledgers(BUDGET, tmp_path).spent(ONE) in (0.4, 0.8)
    assert Ledgers(BUDGET, tmp_path).charge(ONE, 2) in (0.8, None)


def test_temporary_files_of_a_killed_process_are_swept_and_nothing_else(tmp_path):
    for name in (".0001.json.k3_x9a0b.pfedmoap", ".0001.json.swp", ".x.json.k3_x9a0b.pfedmoap"):
        (tmp_path / name).write_text("x")
    Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".0001.json.swp",
        LOCK,
        ".x.json.k3_x9a0b.pfedmoap",
        "0001.json",
    ]


def test_ledgers_are_not_swept_with_checkpoints(tmp_path):
    from pfedmoap.runs.directory import RunDirectory

    Ledgers(BUDGET, tmp_path / "ledgers").charge(ONE, 1)
    RunDirectory(tmp_path).resume()
    assert {file.name for file in Path(tmp_path / "ledgers").iterdir()} == {LOCK, "0001.json"}
