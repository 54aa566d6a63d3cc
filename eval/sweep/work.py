"""One job of a sweep: one trial with one seed, in whatever process.

``python -m eval.sweep.work FOLDER TASK NUMBER SEED [TRACKERS]`` is what workers run.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.comparison.cells import run_cell
from eval.comparison.spec import Cell
from eval.escaping import for_terminal
from eval.experiment import ExperimentLoader
from eval.logs import messages_shown
from eval.sweep.record import FILE
from eval.sweep.spec import Trial, sweep
from eval.tracking.choose import FOLDER, Tracks
from pfedmoap.storage.atomic_files import read_json
from pfedmoap.storage.locks import HELD, locked_handle

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        out: The sweep's folder.
        task: Validation or test.
        number: The trial.
        seed: The seed.
        track: Trackers to tell.
    """

    out: Path
    task: str
    number: int
    seed: int
    track: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name, also of its log."""
        return f"{self.task}-{self.number}-seed{self.seed}"

    @property
    def words(self) -> list[str]:
        """The command line of a worker, behind the program."""
        return [
            str(self.out),
            self.task,
            str(self.number),
            str(self.seed),
            ",".join(self.track),
        ]


def cell_of(job: Job) -> Cell:
    """Read what a job runs from the sweep's folder.

    Raises:
        PFedMoAPError: The sweep there is damaged.
    """
    known = read_json(job.out / FILE)
    trial = Trial(**known["trials"][job.number - 1])
    cells = sweep(known["file"], checked=False).cells(trial, job.task)
    return next(cell for cell in cells if cell.seed == job.seed)


def attempt(job: Job, loader: ExperimentLoader | None = None) -> str | None:
    """Run a job to its end, from wherever it stands.

    Where a worker of a killed sweep is still at it, that is waited for.

    Returns:
        Why it failed; ``None`` where it did not.
    """
    try:
        cell = cell_of(job)
        _wait_until_free(job.out / cell.folder)
        tracks = Tracks.of(job.track, job.out / FOLDER, job.out.resolve().name)
        run_cell(cell, job.out, loader or ExperimentLoader(progress=False), tracks=tracks)
    except Exception as error:  # a trial may fail in any way, and the sweep goes on
        return f"{type(error).__name__}: {error}"
    return None


def _wait_until_free(folder: Path) -> None:
    while folder.is_dir():
        handle = locked_handle(folder)
        if handle is not HELD:
            if handle is not None:
                os.close(handle)
            return
        time.sleep(_PAUSE_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """Run a job; returns the process's status, and says on standard error why it failed."""
    out, task, number, seed, track = arguments
    job = Job(Path(out), task, int(number), int(seed), tuple(track.split(",")) if track else ())
    with messages_shown():
        why = attempt(job)
    if why is None:
        return 0
    sys.stderr.write(f"error: {for_terminal(why)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
