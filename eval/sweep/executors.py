"""Where jobs run: in this process, in processes of this machine, or on a cluster."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from typing import IO, Protocol

from eval.experiment import ExperimentLoader
from eval.sweep.options import HereOptions, LocalOptions, SlurmOptions
from eval.sweep.record import JOBS
from eval.sweep.work import Job, attempt
from pfedmoap.storage.atomic_files import make_folder

_PAUSE_SECONDS = 0.05
_END_SECONDS = 10.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Outcome = tuple[Job, str | None]
"""A job that has ended, and why it failed."""


class Executor(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run jobs, and tell of each that has ended. What runs is ended with the iterator."""
        ...


def executor_of(options: HereOptions | LocalOptions | SlurmOptions) -> Executor:
    """Make the executor that a sweep asks for.

    Raises:
        ConfigError: It needs submitit, which is not installed, or a cluster that is not here.
    """
    if isinstance(options, HereOptions):
        return Here()
    if isinstance(options, LocalOptions):
        return Local(options)
    from eval.sweep.cluster import Cluster, require_submitit  # an optional package

    require_submitit()
    return Cluster(options)


class Here:
    """One job after another in this process; backbone and data are loaded once."""

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run jobs; see `Executor.run`."""
        loader = ExperimentLoader(progress=False)
        for job in jobs:
            yield job, attempt(job, loader)


class Local:
    """Processes of this machine. One that is killed is a job that failed, and no more.

    Args:
        options: How many, and their threads.
    """

    def __init__(self, options: LocalOptions) -> None:
        self._workers = options.workers
        self._threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment of a worker: this one's, with its number of threads."""
        return {**os.environ, **dict.fromkeys(_THREADS, str(self._threads))}

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run jobs; see `Executor.run`."""
        waiting = list(jobs)
        running: dict[Job, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    job = waiting.pop(0)
                    running[job] = self._start(job)
                ended = [job for job, (process, _) in running.items() if process.poll() is not None]
                for job in ended:
                    process, log = running.pop(job)
                    log.close()
                    yield job, _why(job, process.returncode)
                if not ended:
                    time.sleep(_PAUSE_SECONDS)
        finally:
            _end(running)

    def _start(self, job: Job) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        make_folder(job.out / JOBS)
        log = (job.out / JOBS / f"{job.name}.log").open("wb")
        words = [sys.executable, "-m", "eval.sweep.work", *job.words]
        return subprocess.Popen(
            words,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is this process's alone, which ends them
        ), log


def _end(running: Mapping[Job, tuple[subprocess.Popen[bytes], IO[bytes]]]) -> None:
    """Ask processes to end, and end those that do not."""
    for process, _ in running.values():
        process.terminate()
    for process, log in running.values():
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _why(job: Job, status: int) -> str | None:
    """Why a process failed: the last line of its log that says so, or its status."""
    if status == 0:
        return None
    log = job.out / JOBS / f"{job.name}.log"
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    what = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{what}; see {log}"
