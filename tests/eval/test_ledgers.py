"""The ledger command shows what is in ledgers, of a run or of a folder, and changes nothing."""

from pathlib import Path

import pytest

from eval.commands.ledger import main
from eval.console import console
from eval.ledgers import find_ledgers, read_statements
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.wire.messages import ClientId
from privacy.accounting.epsilon import gaussian_epsilon, sampled_gaussian_epsilon
from privacy.ledgers.composition import Steps, composed_epsilon
from privacy.ledgers.ledger import Budget, Ledgers
from privacy.ledgers.ledger_file import Account, Charge, write_accounts

ONE, TWO = ClientId(1), ClientId(2)


def release(noise: float, folder: Path, shared: Path | None = None) -> Ledgers:
    mechanism = {"name": "release", "unit": "client", "delta": 1e-5, "noise_multiplier": noise}
    budget = Budget(8.0, mechanism, lambda units: gaussian_epsilon(noise, units, 1e-5), 1)
    return Ledgers(budget, folder, shared)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    shared = tmp_path / "people"
    first = release(3.0, tmp_path / "a/ledgers", shared)
    for round in (1, 2, 2):
        first.charge(ONE, round)
    release(4.0, tmp_path / "b/ledgers", shared).charge(ONE, 1)
    first.charge(TWO, 1)
    write_json(tmp_path / "a/config.json", {"privacy": {"name": "release", "ledgers": str(shared)}})
    return shared


def test_each_run_alone_and_all_together(people: Path):
    one, two = read_statements(people)
    assert one.spent == pytest.approx(
        [gaussian_epsilon(3.0, 3, 1e-5), gaussian_epsilon(4, 1, 1e-5)]
    )
    assert one.total == pytest.approx(
        composed_epsilon((Steps(3.0, 1.0, 3), Steps(4.0, 1.0, 1)), 1e-5)
    )
    assert one.left == pytest.approx(8 - one.total)
    assert two.total == pytest.approx(gaussian_epsilon(3.0, 1, 1e-5))
    assert [s.epsilon for s in read_statements(people, epsilon=5.0)] == [5.0, 5.0]
    assert read_statements(people, delta=1e-9)[0].total > one.total


def test_the_command_shows_a_folder_and_a_run(people: Path, capsys, monkeypatch):
    monkeypatch.setattr(console, "width", 200)
    before = {file.name: file.read_bytes() for file in people.iterdir()}
    main([str(people)])
    rows = [line for line in capsys.readouterr().out.splitlines() if "release" in line]
    assert len(rows) == 3
    assert " 2 " in rows[0]  # rounds
    assert " 3 " in rows[0]  # charges: one round was run again
    assert not any(" * " in row for row in rows)
    main([str(people.parent / "a")])
    shown = capsys.readouterr().out
    assert sum(" * " in line for line in shown.splitlines()) == 2  # the run that was asked about
    assert "2 clients; together the runs cost at most epsilon" in " ".join(shown.split())
    assert {file.name: file.read_bytes() for file in people.iterdir()} == before


def test_a_run_of_its_own_is_shown_as_its_accountant_counted(tmp_path: Path):
    mechanism = {"name": "dpsgd joint", "unit": "example", "delta": 1e-5, "noise_multiplier": 1.0}
    mechanism |= {"sample_rate": 0.25, "accountant": "rdp"}

    def spent(units: int) -> float:
        return sampled_gaussian_epsilon("rdp", 1.0, 0.25, units, 1e-5)

    charged = Ledgers(Budget(50.0, mechanism, spent, 4), tmp_path / "ledgers").charge(ONE, 1)
    write_json(tmp_path / "config.json", {"privacy": {"name": "dpsgd", "ledgers": None}})
    place = find_ledgers(tmp_path)
    assert place.run == "this run"
    assert read_statements(place.folder)[0].total == pytest.approx(charged)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_folder_without_ledgers_is_an_error(tmp_path: Path, make):
    make(tmp_path / "x")
    with pytest.raises(RunError, match="has no ledgers"):
        find_ledgers(tmp_path / "x")


def test_impossible_options_and_damaged_ledgers_end_the_command(people: Path, capsys):
    (people / "0002.json").write_text("{")
    for arguments, message in (
        (["--delta", "2"], "delta"),
        (["--epsilon", "-1"], "epsilon"),
        ([], "damaged"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(people), *arguments])
        assert ended.value.code == 1
        assert message in capsys.readouterr().err


def test_no_total_is_printed_for_runs_that_have_none(people: Path, capsys):
    """A folder that an earlier version let two kinds of runs charge, each in files of its own."""
    server = {"name": "central", "unit": "client, added or removed", "delta": 1e-5}
    account = Account("x", 4.0, server | {"noise_multiplier": 3.0}, (Charge(1, 1, 1.0),))
    write_accounts(people / "-001.json", ClientId(-1), (account,))
    with pytest.raises(SystemExit):
        main([str(people)])
    shown = capsys.readouterr()
    assert "no common total" in " ".join(shown.err.split())
    assert "at most epsilon" not in shown.out


def test_the_account_of_all_clients_is_no_client(tmp_path: Path, capsys):
    release(3.0, tmp_path / "a", tmp_path / "people").charge(ClientId(-1), 1)
    main([str(tmp_path / "people")])
    assert "one account for all clients" in " ".join(capsys.readouterr().out.split())
