"""Run a sweep to its end: trials on validation images, the choice, and its test."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from eval.choices import training_schema
from eval.comparison.cells import Results, read_results
from eval.comparison.tables import write_tables
from eval.promise import is_private
from eval.results import is_finished
from eval.sweep.executors import Executor, executor_of
from eval.sweep.record import SweepRecord
from eval.sweep.search import next_trials, planned_trials, require_search
from eval.sweep.space import sections_of
from eval.sweep.spec import TEST, VALIDATION, Sweep, Trial
from eval.sweep.work import Job
from eval.tracking.choose import Tracks
from pfedmoap.config.schema import Section
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.locks import locked_folder

logger = logging.getLogger(__name__)

Advance = Callable[[str, int, int], None]
"""Called with the last job that ended, how many have, and how many there will be."""

CHOSEN = "chosen.yaml"


@dataclass(frozen=True)
class Chosen:
    """A finished sweep.

    Attributes:
        trial: The trial that was chosen.
        score: Its score on validation images, mean over seeds.
        scores: Those of all trials that are whole, by number.
        failed: Why jobs failed, by job.
        results: The sweep as a comparison.
        tables: Folder of its tables.
    """

    trial: Trial
    score: float
    scores: dict[int, float]
    failed: dict[str, str]
    results: Results
    tables: Path


def run_sweep(
    sweep: Sweep,
    out: Path,
    *,
    resume: bool = False,
    track: Sequence[str] = (),
    advance: Advance = lambda *_: None,
    executor: Executor | None = None,
) -> Chosen:
    """Run what is not finished, choose by validation images, and test what was chosen.

    Test images are used by the runs of the chosen trial alone, which train on all training images.

    Args:
        sweep: The sweep.
        out: Its folder.
        resume: Go on with the sweep that is there; what failed is tried again.
        track: Trackers to tell of each round of each run.
        advance: Called with the progress.
        executor: Where jobs run; ``None`` takes what the sweep names.

    Returns:
        The choice.

    Raises:
        ConfigError: A package or a cluster that it needs is not here.
        RunError: The folder cannot be used, no trial is whole, or the test failed.
    """
    require_search(sweep)
    kinds = Tracks.of(track).kinds
    record = SweepRecord.open(out, sweep, resume=resume)
    chosen_executor = executor or executor_of(sweep.executor)
    with locked_folder(out):
        record.write()
        run = _Running(record, chosen_executor, kinds, advance)
        if record.chosen is None:
            run.try_all()
            record.chosen = _best(record)
            record.write()
        run.test()
        trial = record.chosen_trial
        assert trial is not None  # chosen above
        options = yaml.safe_dump(_merged(sweep.base, trial), sort_keys=False, allow_unicode=True)
        write_bytes(out / CHOSEN, options.encode())
        results = read_results(out)
        tables = write_tables(results, out)
        scores = record.scores()
        return Chosen(trial, scores[trial.number], scores, record.failed, results, tables)


def warn_of_privacy(sweep: Sweep) -> None:
    """Warn where trials are private: the guarantee of one covers no other, nor the choice.

    Args:
        sweep: The sweep.
    """
    trials = next_trials(sweep, [], {})
    if any(is_private(_merged(sweep.base, trial)) for trial in trials):
        logger.warning(
            "the guarantee of each trial covers that trial alone: %d trials x %d seeds on the same "
            "data spend the sum of their budgets, and no noise covers the choice among them",
            planned_trials(sweep),
            len(sweep.seeds),
        )


class _Running:
    """Runs the jobs of a sweep, and notes how they end."""

    def __init__(
        self, record: SweepRecord, executor: Executor, track: tuple[str, ...], advance: Advance
    ) -> None:
        self._record, self._executor = record, executor
        self._track, self._advance = track, advance
        self._done = 0
        sweep = record.sweep
        self._planned = (planned_trials(sweep) + 1) * len(sweep.seeds)

    def try_all(self) -> None:
        """Run all trials on validation images, batch by batch."""
        record = self._record
        if record.trials:
            self._run(record.trials, VALIDATION)
        while batch := next_trials(record.sweep, record.trials, record.scores()):
            record.trials.extend(batch)
            record.write()
            self._run(batch, VALIDATION)

    def test(self) -> None:
        """Run the chosen trial on all training images, and test it.

        Raises:
            RunError: A seed of it failed.
        """
        trial = self._record.chosen_trial
        assert trial is not None
        self._run([trial], TEST)
        own = {job: why for job, why in self._record.failed.items() if job.startswith(TEST)}
        if own:
            job, why = next(iter(own.items()))
            raise RunError(f"the test of the chosen trial failed ({job}): {why}")

    def _run(self, trials: Sequence[Trial], task: str) -> None:
        record, jobs = self._record, []
        for trial in trials:
            for seed, folder in record.sweep.folders(trial, task).items():
                job = Job(record.out, task, trial.number, seed, self._track)
                if is_finished(record.out / folder):
                    self._done += 1
                    self._advance(job.name, self._done, self._planned)
                else:
                    jobs.append(job)
        with closing(self._executor.run(jobs)) as outcomes:  # what runs ends with this process
            for job, why in outcomes:
                self._note(job, why)

    def _note(self, job: Job, why: str | None) -> None:
        record = self._record
        self._done += 1
        record.failed.pop(job.name, None)
        if why is not None:
            record.failed[job.name] = why
            trial = record.trials[job.number - 1]
            logger.warning("trial %s, seed %d failed: %s", trial.label, job.seed, why)
        record.write()
        self._advance(job.name, self._done, self._planned)


def _best(record: SweepRecord) -> int:
    """Number of the best trial; of equal ones the first."""
    scores = record.scores()
    if not scores:
        why = next(iter(record.failed.values()), "there is none")
        raise RunError(f"no trial of {record.out} is whole, so that none can be chosen: {why}")
    return max(scores, key=lambda number: (scores[number], -number))


def _merged(base: Section, trial: Trial) -> Section:
    """Options of a trial by section, as ``--config`` takes them."""
    return training_schema().merge(base, sections_of(trial.point))
