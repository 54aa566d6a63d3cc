"""Processes that charge one folder take turns, every time, and lose no charge."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from pfedmoap.errors import RunError
from pfedmoap.storage.locks import locked
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger import LOCK, Budget, Ledgers

ONE = ClientId(1)
BUDGET = Budget(1.0, {"name": "test", "delta": 1e-5, "sigma": 2.0}, lambda units: units / 10, 4)
LARGE = Budget(1e9, BUDGET.mechanism, lambda units: units / 10, 1)


def test_charges_of_many_at_once_are_all_kept(tmp_path):
    """Each with ledgers of its own, as processes have them."""

    def work(worker):
        return [Ledgers(LARGE, tmp_path).charge(ONE, round) for round in range(1, 21)]

    with ThreadPoolExecutor(3) as pool:
        spent = sorted(epsilon for found in pool.map(work, range(3)) for epsilon in found)
    assert spent == pytest.approx([units / 10 for units in range(1, 61)])
    assert len(Ledgers(LARGE, tmp_path).charges(ONE)) == 60


def test_charges_of_two_processes_are_all_kept(tmp_path):
    code = (
        "import sys; from pathlib import Path; from privacy.ledgers.ledger import Budget, Ledgers\n"
        f"budget = Budget(1e9, {BUDGET.mechanism}, lambda units: units / 10, 1)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for r in range(1, 31): Ledgers(budget, Path(sys.argv[1])).charge(1, r)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        for round in range(1, 31):
            Ledgers(LARGE, tmp_path).charge(ONE, round)
    assert other.returncode == 0
    assert len(Ledgers(LARGE, tmp_path).charges(ONE)) == 60


def test_who_waits_too_long_is_told_who_holds_the_ledgers(tmp_path):
    def second():
        with locked(tmp_path / LOCK, wait_seconds=0.05):
            pass

    with (
        Ledgers(BUDGET, tmp_path).locked(),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RunError, match=rf"in use by process {os.getpid()} on .+ since \d{{4}}-"),
    ):
        pool.submit(second).result()
    second()


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="symbolic link"):
        Ledgers(BUDGET, tmp_path).charge(ONE, 1)
    assert (tmp_path / "mine").read_text() == "mine"


def test_the_lock_is_taken_each_time_and_once_where_it_is_nested(tmp_path):
    ledgers, other = Ledgers(BUDGET, tmp_path), FileLock(tmp_path / LOCK)
    for _ in range(3):
        with ledgers.locked():
            with ledgers.locked(), pytest.raises(Timeout):
                other.acquire(timeout=0)
            with pytest.raises(Timeout):  # the inner block has not given it back
                other.acquire(timeout=0)
        with other.acquire(timeout=0):
            pass
