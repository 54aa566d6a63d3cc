"""How far a run is: lines in a pipe or a file, a bar with the time left on a terminal."""

import io
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

import pfedmoap
from eval.commands.compare import progress_bars
from eval.comparison.spec import comparison
from eval.progress import (
    Lines,
    counted_progress,
    is_live,
    progress_bar,
    round_progress,
    terminal_progress,
)
from tests.helpers.runs import small


def rendered(unit: str | None) -> str:
    progress = terminal_progress(unit)
    progress.add_task("work", total=3, completed=1)
    text = io.StringIO()
    Console(file=text, width=120).print(progress.get_renderable())
    return text.getvalue()


def test_the_unit_stands_behind_the_count_where_there_is_one():
    assert "1/3 rounds" in rendered("round")
    assert "1/3" in rendered(None)
    assert "rounds" not in rendered(None)


def test_what_is_hidden_moves_and_writes_nothing(capsys):
    with progress_bar("work", shown=False) as advance:
        advance(1, 2)
    with round_progress("work", shown=False) as (advance, told):
        advance(1, 2)
        told({"round": 1}, 2)
    with counted_progress("work", "job", shown=False) as count:
        count("a", 1, 2)
    assert capsys.readouterr() == ("", "")


class Terminal:
    """Standard error that is a terminal, read as it is written."""

    def __init__(self) -> None:
        own, other = pty.openpty()
        self.stream = os.fdopen(other, "w")
        self._own, self._read = own, bytearray()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        while True:
            try:
                self._read += os.read(self._own, 4096)
            except OSError:  # the other end is closed
                return

    def shown(self) -> str:
        self.stream.close()
        self._reader.join(10)
        os.close(self._own)
        return self._read.decode()


@contextmanager
def on_terminal(monkeypatch, kind: str = "xterm") -> Iterator[Terminal]:
    """Let standard error be a terminal; pytest puts its own in place before a test's body."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", kind)
    made = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", made.stream)
        yield made


def test_a_run_in_a_pipe_writes_one_line_a_round_with_its_figures(cache, tmp_path, capsys):
    run = pfedmoap.train(small(cache), out=tmp_path / "run", progress=True)
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert len(lines) == 2
    for number, (line, row) in enumerate(zip(lines, run.metrics, strict=True), 1):
        assert line.startswith(f"pfedmoap: round {number}/2, mean {100 * row['mean']:.2f} %, worst")
        assert f"loss {row['train_loss']:.4g}" in line
        assert re.search(r", \d+ s so far, about \d+ s left$", line)
    assert "\x1b" not in written


def test_a_run_that_goes_on_writes_the_rounds_that_it_runs(cache, tmp_path, capsys):
    pfedmoap.train(small(cache, rounds={"rounds": 1}), out=tmp_path / "run")
    pfedmoap.train(small(cache), out=tmp_path / "run", resume=True, progress=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pfedmoap: round 2/2, mean ")


def test_a_run_on_a_terminal_draws_a_bar_with_the_time_left(cache, tmp_path, monkeypatch):
    with on_terminal(monkeypatch) as terminal:
        assert is_live()
        run = pfedmoap.train(small(cache), out=tmp_path / "run", progress=True)
    shown = terminal.shown()
    assert run.round == 2
    assert "2/2" in shown
    assert "rounds" in shown
    assert re.search(r"-:--:--|\d:\d\d:\d\d", shown)
    assert "so far" not in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the bar vanishes


def test_a_dumb_terminal_gets_lines(monkeypatch):
    with on_terminal(monkeypatch, "dumb") as terminal:
        assert not is_live()
        with progress_bar("work", "fault") as advance:
            advance(0, 2)
            advance(1, 2)
    assert terminal.shown().strip() == "work: fault 1/2, 0 s so far, about 0 s left"


def test_a_comparison_and_a_sweep_in_a_pipe_write_lines(capsys, tmp_path):
    base = small(tmp_path)
    del base["method"]
    plan = comparison({"base": base, "methods": {"a": {"method": "promptfl"}}})
    with progress_bars(1) as advance:
        advance(plan.cells[0], 0, 0, 2)
        advance(plan.cells[0], 0, 1, 2)
        advance(plan.cells[0], 0, 2, 2)
    with counted_progress("trials", "job") as count:
        count("validation-1-seed0", 1, 3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "default | a | seed 0 (1 of 1): round 1/2",
        "default | a | seed 0 (1 of 1): round 2/2",
        "trials: job 1/3",
    ]
    assert "validation-1-seed0" in lines[2]


def test_times_are_readable_and_the_rest_is_reckoned_from_what_was_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("eval.progress.time.monotonic", lambda: now[0])
    lines = Lines("work", "round")
    lines.start(2, 12)
    now[0] = 90.0
    lines.count(3, 12)
    now[0] = 7300.0
    lines.count(4, 12, "x")
    assert capsys.readouterr().err.splitlines() == [
        "work: round 3/12, 1 min 30 s so far, about 13 min 30 s left",
        "work: round 4/12, x, 2 h 01 min so far, about 8 h 06 min left",
    ]
