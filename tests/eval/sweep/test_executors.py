"""Jobs as real processes: one that works, one that fails, and one that is ended."""

import os
import signal
import subprocess

import pytest

from eval.sweep.executors import Here, Local, executor_of
from eval.sweep.options import HereOptions, LocalOptions
from eval.sweep.record import SweepRecord
from eval.sweep.search import next_trials
from eval.sweep.spec import VALIDATION, sweep
from eval.sweep.work import Job, main
from tests.helpers.sweeps import tiny


@pytest.fixture
def jobs(cache, tmp_path) -> list[Job]:
    record = SweepRecord.open(
        tmp_path / "out", sweep(tiny(cache, space={"partition.clients": [4, 60]})), resume=False
    )
    record.trials = next_trials(record.sweep, [], {})
    record.write()
    return [Job(record.out, VALIDATION, trial.number, 0) for trial in record.trials]


def test_a_job_is_a_process_that_leaves_a_finished_run(jobs):
    assert list(Local(LocalOptions(workers=2, threads=1)).run(jobs[:1])) == [(jobs[0], None)]
    folder = jobs[0].out / "cells" / VALIDATION / "1-clients=4" / "seed0"
    assert (folder / "per_client.csv").exists()


def test_a_process_that_fails_says_why_and_the_others_go_on(jobs, monkeypatch):
    """A worker's last line is its error; see `eval.sweep.work.main`."""
    start = subprocess.Popen
    scripts = iter(["echo warning: x >&2; echo error: PartitionError: few >&2; exit 1", "true"])

    def noted(*args, **options):
        assert options["env"]["OMP_NUM_THREADS"] == "1"
        return start(
            ["sh", "-c", next(scripts)], stdout=options["stdout"], stderr=options["stderr"]
        )

    monkeypatch.setattr("eval.sweep.executors.subprocess.Popen", noted)
    found = dict(Local(LocalOptions(workers=1, threads=1)).run(jobs))
    assert found == {jobs[0]: "PartitionError: few", jobs[1]: None}


def test_a_worker_says_why_its_job_failed(jobs, capsys):
    assert main(jobs[1].words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: PartitionError: ")


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
