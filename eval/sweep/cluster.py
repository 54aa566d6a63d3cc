"""Jobs on Slurm through submitit, and on submitit's local executors, to try them."""

import time
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.sweep.options import SlurmOptions
from eval.sweep.record import JOBS
from eval.sweep.work import Job, attempt
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import make_folder, read_json, write_json

FILE = "jobs.json"
PAUSE_SECONDS = {"slurm": 10.0, "local": 0.1, "debug": 0.0}


def require_submitit() -> None:
    """Refuse a cluster without submitit.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("submitit") is None:
        raise ConfigError(
            "executor slurm needs the package submitit, which is not installed: "
            "`pip install 'pfedmoap[sweep]'`"
        )


class Cluster:
    """Submits jobs as one array, and waits for them.

    Jobs outlive this process: what was submitted is in ``jobs/jobs.json``, and a sweep that is
    continued waits for what still runs in place of submitting it again.

    Args:
        options: Cluster, limits and resources.

    Raises:
        ConfigError: There is no such cluster here, or it knows no such parameter.
    """

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, str | None], None, None]:
        """Run jobs; see `eval.sweep.executors.Executor.run`."""
        if not jobs:
            return
        folder = jobs[0].out.resolve() / JOBS
        make_folder(folder, 0o700)  # submitit's files are pickles: nobody else may write them
        submitted = self._submitted(folder, jobs)
        open_jobs = dict(submitted)
        while open_jobs:
            ended = [job for job, one in open_jobs.items() if self._has_ended(one)]
            for job in ended:
                yield job, _why(open_jobs.pop(job))
            if open_jobs and not ended:
                time.sleep(PAUSE_SECONDS[self._options.cluster])

    def _submitted(self, folder: Path, jobs: Sequence[Job]) -> dict[Job, Any]:
        """Submit what is not running already."""
        known = read_json(folder / FILE) if (folder / FILE).exists() else {}
        found: dict[Job, Any] = {}
        for job in jobs:
            if job.name in known and (one := self._again(folder, known[job.name])) is not None:
                found[job] = one
        missing = [job for job in jobs if job not in found]
        if missing:
            executor = self._executor(folder)
            with executor.batch():
                made = [executor.submit(_function(), job) for job in missing]
            found |= dict(zip(missing, made, strict=True))
        if self._options.cluster == "slurm":
            write_json(folder / FILE, known | {job.name: one.job_id for job, one in found.items()})
        return {job: found[job] for job in jobs}

    def _again(self, folder: Path, job_id: str) -> Any:  # submitit's job
        """The job of an earlier call, where it still waits or runs."""
        if self._options.cluster != "slurm":
            return None
        from submitit import SlurmJob

        job: Any = SlurmJob(folder=folder, job_id=job_id)
        return None if job.done(force_check=True) else job

    def _has_ended(self, job: Any) -> bool:
        # submitit's debug jobs run when they are asked for their outcome, and asking whether they
        # are done would open a debugger on an error.
        return self._options.cluster == "debug" or bool(job.done())

    def _executor(self, folder: Path) -> Any:  # submitit's executor
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=str(folder), cluster=self._options.cluster)
            executor.update_parameters(**self._parameters())
        except (RuntimeError, NameError, ValueError) as error:
            raise ConfigError(f"executor slurm: {' '.join(str(error).split())}") from error
        return executor

    def _parameters(self) -> dict[str, Any]:
        options = self._options
        threads = [f"export OMP_NUM_THREADS={options.cpus_per_task}"]
        slurm = {
            "array_parallelism": options.at_once,
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "setup": [*threads, *options.setup],
            "additional_parameters": dict(options.parameters) or None,
        }
        return {
            "name": "pfedmoap-sweep",
            "timeout_min": options.timeout_min,
            "mem_gb": options.mem_gb,
            "cpus_per_task": options.cpus_per_task,
            "gpus_per_node": options.gpus_per_node or None,
            **{f"slurm_{name}": value for name, value in slurm.items() if value is not None},
        }


def script(options: SlurmOptions, out: Path, jobs: int) -> str:
    """Write the script that ``sbatch`` would get; there need be no Slurm here.

    Args:
        options: Limits and resources.
        out: The sweep's folder.
        jobs: How many jobs the array has.

    Raises:
        ConfigError: A parameter is unknown.
    """
    from submitit.slurm.slurm import SlurmExecutor

    class Shown(SlurmExecutor):
        """Can be made where there is no ``srun``."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    given = {name: value for name, value in Cluster(options)._parameters().items() if value}
    slurm = {name.removeprefix("slurm_"): given.pop(name) for name in [*given] if "slurm_" in name}
    try:
        executor = Shown(folder=str(out.resolve() / JOBS))
        executor._internal_update_parameters(**executor._convert_parameters(given), **slurm)
    except ValueError as error:
        raise ConfigError(f"executor slurm: {' '.join(str(error).split())}") from error
    if jobs > 1:
        executor.parameters["map_count"] = jobs
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "sweep")
    return text


def _function() -> Any:  # submitit's Checkpointable
    from submitit.helpers import Checkpointable, DelayedSubmission

    class Work(Checkpointable):
        """Runs a job; one that is stopped is submitted again, and goes on with its run."""

        def __call__(self, job: Job) -> str | None:
            return attempt(job)

        def checkpoint(self, job: Job) -> Any:
            return DelayedSubmission(self, job)

    made: Any = Work
    return made()  # submitit's `__new__` has no types


def _why(job: Any) -> str | None:  # submitit's job
    error = job.exception()
    if error is not None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"job {job.job_id}: {lines[-1] if lines else type(error).__name__}"
    found: str | None = job.result()
    return found
