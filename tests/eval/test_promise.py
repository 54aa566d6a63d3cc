"""The terminal of a private run: what it promises before it starts, what is spent at its end."""

import json
import re

import pytest

from eval.commands import train
from eval.promise import logged_epsilon, promised, spent
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory

SMALL = (
    "--partition",
    "iid",
    "--partition.clients",
    "2",
    "--sampling.shots",
    "4",
    "--method.context_length",
    "2",
    "--method.experts",
    "1",
    "--training.epochs",
    "1",
    "--rounds.rounds",
    "2",
    "--rounds.evaluate_every",
    "2",
    "--quiet",
    "true",
    "--backbone.device",
    "cpu",
)


SMALL_AVERAGED = [
    word
    for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)
    if name not in ("--method.experts", "--rounds.rounds")
    for word in (name, value)
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("mode", ["dpsgd", "release"])
def test_a_private_run_says_what_it_promises_and_what_it_spent(mode, cache, tmp_path, capsys):
    out = tmp_path / "run"
    options = ("--privacy", mode, "--privacy.epsilon", "6", "--privacy.delta", "1e-6")
    train.main([*SMALL, *options, "--features.cache", cache, "--out", str(out)])
    shown = capsys.readouterr().out
    statement = json.loads((out / "privacy.json").read_text())
    noise = f"{statement['mechanism']['noise_multiplier']:.4g}"
    before = next(line for line in shown.splitlines() if line.startswith("privacy: "))
    for words in (mode, "epsilon 6", "delta 1e-06", statement["unit"], "2 rounds", noise):
        assert words in before
    assert before.endswith(f"in full: {out / 'privacy.json'}")
    assert shown.index(before) < shown.index("personalised accuracy")
    after = re.search(r"privacy spent so far: epsilon ([\d.]+) of 6 \(the largest of 2", shown)
    assert after is not None
    assert 0 < float(after[1]) <= 6


def test_a_run_without_privacy_says_nothing_of_it(cache, tmp_path, capsys):
    train.main([*SMALL, "--features.cache", cache, "--out", str(tmp_path / "run")])
    assert "epsilon" not in capsys.readouterr().out
    assert promised({}, None) is None
    assert spent({}, {}) is None


def test_a_budget_without_a_mode_says_which_mode_to_choose(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(["--privacy.epsilon", "8", "--out", str(tmp_path / "run")])
    assert ended.value.code == 1
    assert "choose `--privacy dpsgd` (or release" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, "1", True, None])
def test_a_spent_epsilon_that_is_no_number_is_not_shown(value):
    with pytest.raises(RunError, match="metrics of round 3 are damaged"):
        logged_epsilon([{"round": 3, "epsilon": {"0": value}}])


@pytest.mark.parametrize("mode", ["release", "central"])
@pytest.mark.parametrize("shared", [False, True])
def test_what_a_killed_round_has_cost_is_told(mode, shared, cache, tmp_path, capsys, monkeypatch):
    """Killed in round 1 after it was charged for all of the budget: nobody can take part again."""
    out = tmp_path / "run"
    options = ["--privacy", mode, "--privacy.epsilon", "6", "--rounds.rounds", "1"]
    options += ["--privacy.ledgers", str(tmp_path / "people")] if shared else []
    options += ["--method", "promptfl", "--features.cache", cache, "--out", str(out)]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train.main([*SMALL_AVERAGED, *options])
    with pytest.raises(SystemExit):  # there are no results, and it says so
        train.main([*SMALL_AVERAGED, *options, "--resume", "true"])
    assert not any(record["epsilon"] for record in RunDirectory(out).metrics())
    told = capsys.readouterr()
    assert "nobody trained" in told.err
    shown = " ".join(told.out.split())
    whose = {"release": "the largest of 2 clients'", "central": "of every client"}[mode]
    spent = re.search(r"privacy spent so far: epsilon ([\d.]+) of 6 \((.*?)\)", shown)
    assert spent is not None
    assert 5.9 < float(spent[1]) <= 6
    assert spent[2] == whose
