"""Slurm through submitit: the script, its debug and local executors, and a stand-in for Slurm."""

import json
import os
import stat
import sys
from threading import Thread

import pytest

from eval.commands import sweep as command
from eval.sweep.cluster import Cluster, require_submitit, script
from eval.sweep.executors import executor_of
from eval.sweep.options import SlurmOptions
from eval.sweep.record import SweepRecord
from eval.sweep.search import next_trials
from eval.sweep.spec import VALIDATION, sweep
from eval.sweep.work import Job
from pfedmoap.errors import ConfigError
from tests.helpers.sweeps import tiny

pytest.importorskip("submitit")


@pytest.fixture
def jobs(cache, tmp_path) -> list[Job]:
    source = tiny(cache, space={"partition.clients": [4, 60]})
    record = SweepRecord.open(tmp_path / "out", sweep(source), resume=False)
    record.trials = next_trials(record.sweep, [], {})
    record.write()
    return [Job(record.out, VALIDATION, trial.number, 0) for trial in record.trials]


def finished(job: Job) -> bool:
    folders = list((job.out / "cells" / VALIDATION).glob(f"{job.number}-*/seed0/per_client.csv"))
    return len(folders) == 1


def test_debug_jobs_run_in_this_process_and_open_no_debugger(jobs):
    found = dict(executor_of(SlurmOptions(cluster="debug")).run(jobs))
    assert found[jobs[0]] is None
    assert "PartitionError" in found[jobs[1]]
    assert finished(jobs[0])


@pytest.mark.deployment
def test_local_jobs_are_processes_of_submitit(jobs):
    ((job, why),) = Cluster(SlurmOptions(cluster="local", timeout_min=5)).run(jobs[:1])
    assert (job, why) == (jobs[0], None)
    assert finished(jobs[0])
    assert stat.S_IMODE((jobs[0].out / "jobs").stat().st_mode) == 0o700


def test_the_script_of_sbatch_is_shown_where_there_is_no_slurm(
    cache, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("PATH", "")
    executor = {
        "name": "slurm",
        "timeout_min": 90,
        "mem_gb": 8,
        "cpus_per_task": 4,
        "gpus_per_node": 1,
        "partition": "long",
        "at_once": 3,
        "setup": ["module load cuda"],
        "parameters": {"reservation": "paper"},
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(tiny(cache, executor=executor, seeds=[0, 1])))
    command.main([str(file), "--out", str(tmp_path / "out"), "--dry-run"])
    shown = capsys.readouterr().out
    for line in (
        "2 trials x 2 seeds on 25% of each client's training images, chosen by mean",
        "  2: learning_rate=1e-06",
        "#SBATCH --array=0-3%3",
        "#SBATCH --time=90",
        "#SBATCH --mem=8GB",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --partition=long",
        "#SBATCH --reservation=paper",
        "export OMP_NUM_THREADS=4\nmodule load cuda",
        "-m submitit.core._submit",
    ):
        assert line in shown
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_here_is_refused(jobs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match='Could not detect "srun"'):
        list(Cluster(SlurmOptions()).run(jobs))
    monkeypatch.setattr("eval.sweep.cluster.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'pfedmoap\[sweep\]'"):
        require_submitit()


def test_one_job_needs_no_array(tmp_path):
    assert "--array" not in script(SlurmOptions(), tmp_path, 1)


SBATCH = """#!/bin/sh
echo submitted >> {folder}/calls
SLURM_JOB_ID=77 SLURM_JOBID=77 sh "$1" > {folder}/out 2>&1 &
echo $! > {folder}/pid
echo Submitted batch job 77
"""
SRUN = """#!/bin/sh
while [ "$1" != "{python}" ]; do shift; done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_NNODES=1 exec "$@"
"""
SACCT = """#!/bin/sh
echo 'JobID|State|NodeList'
kill -0 $(cat {folder}/pid) 2>/dev/null && state=RUNNING || state=COMPLETED
echo "77|$state|here"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of Slurm's names: one job at a time, as a process of this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        file = folder / name
        file.write_text(text.format(folder=folder, python=sys.executable))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("eval.sweep.cluster.PAUSE_SECONDS", {"slurm": 0.2})
    return folder


@pytest.mark.deployment
def test_a_sweep_that_is_continued_waits_for_its_jobs_in_place_of_submitting_them_again(
    jobs, slurm
):
    first = Cluster(SlurmOptions(timeout_min=5)).run(jobs[:1])
    submitted = Cluster(SlurmOptions(timeout_min=5))
    other = Thread(target=lambda: list(first), daemon=True)
    other.start()
    while not (jobs[0].out / "jobs" / "jobs.json").exists():
        other.join(0.1)
    assert list(submitted.run(jobs[:1])) == [(jobs[0], None)]
    other.join(60)
    assert (slurm / "calls").read_text().splitlines() == ["submitted"]
    assert finished(jobs[0])
