"""Signals end a command by one line and the status of the signal; the run goes on afterwards."""

import os
import signal

import pytest

from eval.commands.errors import readable_errors
from eval.commands.interruption import SIGNALS, Interrupted, interruptible
from eval.refused import refuse_if_all_refused
from pfedmoap.errors import RunError

NUMBERS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_signal_ends_a_command_with_its_status_and_says_how_to_continue(name, capsys):
    def train(arguments):
        os.kill(os.getpid(), getattr(signal, name))
        raise AssertionError("the signal was lost")

    train.__module__ = "eval.commands.train"
    number = getattr(signal, name)
    callers = signal.signal(
        number, signal.SIG_DFL
    )  # ignored where a shell runs the suite behind it
    try:
        with pytest.raises(SystemExit) as ended:
            readable_errors(train)(["--out", "my run", "--resume", "false", "--rounds.rounds", "9"])
        after = signal.getsignal(number)
    finally:
        signal.signal(number, callers)
    assert ended.value.code == NUMBERS[name]
    assert capsys.readouterr().err.splitlines() == [
        f"interrupted ({name}): complete rounds are kept. Continue with: pfedmoap train "
        "--out 'my run' --rounds.rounds 9 --resume"
    ]
    assert after == signal.SIG_DFL


def test_after_the_first_signal_a_second_one_ends_the_process_at_once():
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    try:
        with interruptible(), pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        after = [signal.getsignal(number) for number in SIGNALS]
        with interruptible():
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
            inside = [signal.getsignal(number) for number in SIGNALS]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert set(inside) == {signal.SIG_DFL}
    assert signal.SIG_DFL not in after  # the caller has its own again


def test_a_command_that_keeps_nothing_is_to_be_run_again(capsys):
    def evaluate(arguments=None):
        raise KeyboardInterrupt

    evaluate.__module__ = "eval.commands.evaluate"
    with pytest.raises(SystemExit) as ended:
        readable_errors(evaluate)(["runs/a"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted (SIGINT). Run it again with: pfedmoap evaluate runs/a\n"
    )


def test_a_signal_that_the_caller_ignores_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        readable_errors(lambda: os.kill(os.getpid(), signal.SIGHUP))()
    finally:
        signal.signal(signal.SIGHUP, before)


def round_of(refused: int) -> dict[str, object]:
    return {
        "round": 1,
        "cohort": [0, 1],
        "rejected": {str(client): "its norm is too large" for client in range(refused)},
    }


def test_a_run_whose_every_update_was_refused_has_no_results():
    with pytest.raises(RunError, match=r"refused all 4 updates of 2 rounds.*norm is too large"):
        refuse_if_all_refused([round_of(2), round_of(2)])
    refuse_if_all_refused([round_of(2), round_of(1)])
    refuse_if_all_refused([{"round": 1, "cohort": [], "rejected": {}}])  # nothing to train
    absent = {"round": 1, "cohort": [], "sat_out": {"0": "privacy budget: 8 is spent"}}
    with pytest.raises(RunError, match=r"nobody trained in 2 rounds, .*2 of them since: privacy"):
        refuse_if_all_refused([absent, absent])
    refuse_if_all_refused([absent, absent | {"cohort": [1]}])


def test_train_ends_with_an_error_where_every_update_was_refused(
    tmp_path, monkeypatch, capsys, cache
):
    from eval.commands import train
    from pfedmoap.engine import round as engine
    from pfedmoap.errors import UpdateRejectedError

    def refuse(*_):
        raise UpdateRejectedError("client 0: its norm is too large")

    monkeypatch.setattr(engine, "admit", refuse)
    options = ["--data", "digits", "--partition.clients", "2", "--sampling.shots", "2"]
    options += ["--rounds.rounds", "1", "--training.epochs", "1", "--method", "promptfl"]
    options += ["--features.cache", str(cache), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        train.main(options)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "refused all 2 updates of 1 rounds" in said.err
    assert "accuracy" not in said.out
    assert not (tmp_path / "run/per_client.csv").exists()
