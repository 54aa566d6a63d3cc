"""Jobs as real processes: one that works, one that fails, and one that is ended."""

import os
import signal
import subprocess

import pytest

from eval.sweep.executors import Here, Local, executor_of
from eval.sweep.record import SweepRecord
from eval.sweep.search import next_trials
from eval.sweep.spec import VALIDATION, HereOptions, LocalOptions, sweep
from eval.sweep.work import Job
from tests.helpers.sweeps import tiny


@pytest.fixture
def jobs(cache, tmp_path) -> list[Job]:
    record = SweepRecord.open(
        tmp_path / "out", sweep(tiny(cache, space={"partition.clients": [4, 60]})), resume=False
    )
    record.trials = next_trials(record.sweep, [], {})
    record.write()
    return [Job(record.out, VALIDATION, trial.number, 0) for trial in record.trials]


def test_processes_run_side_by_side_and_one_that_fails_is_no_more_than_that(jobs):
    found = dict(Local(LocalOptions(workers=2, threads=1)).run(jobs))
    assert found[jobs[0]] is None
    assert "PartitionError" in found[jobs[1]]
    folder = jobs[0].out / "cells" / VALIDATION / "1-clients=4" / "seed0"
    assert (folder / "per_client.csv").exists()
    assert (jobs[0].out / "jobs" / "validation-2-seed0.log").read_text().startswith("error: ")


def test_what_runs_is_ended_with_the_sweep(jobs, monkeypatch):
    started: list = []
    start = subprocess.Popen

    def noted(*args, **options):
        words = ["sleep", "100"] if started else ["true"]
        started.append(start(words, stdout=options["stdout"]))
        return started[-1]

    monkeypatch.setattr("eval.sweep.executors.subprocess.Popen", noted)
    running = Local(LocalOptions(workers=2)).run(jobs)
    assert next(running) == (jobs[0], None)
    running.close()
    assert [process.returncode for process in started] == [0, -signal.SIGTERM]


def test_a_process_that_is_killed_is_a_job_that_failed(jobs, monkeypatch):
    start = subprocess.Popen
    monkeypatch.setattr(
        "eval.sweep.executors.subprocess.Popen",
        lambda *args, **options: start(["sh", "-c", "kill -9 $$"], stdout=options["stdout"]),
    )
    ((_, why),) = Local(LocalOptions(workers=1)).run(jobs[:1])
    assert why.startswith("killed by signal 9; see ")


def test_workers_share_the_cores_unless_told_otherwise():
    cores = os.cpu_count() or 1
    assert Local(LocalOptions(workers=1)).environment["OMP_NUM_THREADS"] == str(cores)
    assert Local(LocalOptions(workers=10**6)).environment["MKL_NUM_THREADS"] == "1"
    assert Local(LocalOptions(2, threads=3)).environment["OMP_NUM_THREADS"] == "3"
    assert isinstance(executor_of(HereOptions()), Here)
    assert isinstance(executor_of(LocalOptions()), Local)
