"""Run a comparison cell by cell in one process, resumable within and between cells."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.comparison.spec import KEYS, Cell, Comparison, comparison
from eval.experiment import ExperimentLoader
from eval.promise import is_private
from eval.protocols import Protocols, figures_by
from eval.results import GENERALISATION, RunResult, is_finished, read_result
from eval.running import run_experiment
from eval.tracking.choose import FOLDER, NOT_TRACKED, Tracks
from pfedmoap.config.schema import Section
from pfedmoap.errors import ConfigError, PFedMoAPError, RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.layout import PRIVATE
from pfedmoap.runs.same_run import refuse_other_run
from pfedmoap.storage.atomic_files import read_json, write_bytes, write_json
from pfedmoap.storage.own_files import contents_in_words, holds_nothing, refuse_link

SOURCE = "comparison.json"

Advance = Callable[[Cell, int, int, int], None]
"""Called with the running cell, how many cells are done, the round done and the last round."""


@dataclass(frozen=True)
class Results:
    """A comparison's finished cells.

    Attributes:
        comparison: What was compared.
        by_cell: Results by task, method and seed; the cells that are not finished are absent.
    """

    comparison: Comparison
    by_cell: Mapping[tuple[str, str, int], RunResult]

    def of(self, task: str, method: str) -> dict[int, RunResult]:
        """The finished runs of one method on one task, by seed."""
        return {
            cell.seed: self.by_cell[cell.task, cell.method, cell.seed]
            for cell in self.comparison.cells
            if (cell.task, cell.method) == (task, method)
            and (cell.task, cell.method, cell.seed) in self.by_cell
        }


def run_comparison(
    plan: Comparison,
    out: Path,
    *,
    resume: bool = False,
    advance: Advance = lambda *_: None,
    finished: Callable[[Results], None] = lambda _: None,
    track: Sequence[str] = (),
) -> Results:
    """Run every cell that is not finished.

    A cell is a run directory: a killed one continues after its last complete round, with the same
    result as if it had never stopped. Backbone, data and features are shared by neighbours.

    Args:
        plan: What to run.
        out: Folder of the comparison.
        resume: Continue the comparison that is there; it may have grown by methods or seeds.
        advance: Called with the progress.
        finished: Called with the results so far after the cells of each task and seed.
        track: Trackers to tell of each round; see `eval.tracking.choose.Tracks`.

    Returns:
        All results.

    Raises:
        RunError: A comparison is there and ``resume`` is false, the folder holds something else,
            or one of its cells was run with another configuration.
    """
    if claimed(out) and not resume:
        raise RunError(
            f"{out} holds a comparison already; continue it with --resume, or choose another "
            "folder with --out"
        )
    refuse_another_comparison(plan, out)
    loader = ExperimentLoader(progress=False)
    tracks = Tracks.of(track, out / FOLDER, out.resolve().name)
    _check_all(plan, out, loader, advance)
    write_bytes(out / SOURCE, (json.dumps(plan.source, indent=2) + "\n").encode())  # in order
    by_cell: dict[tuple[str, str, int], RunResult] = {}
    for done, cell in enumerate(plan.cells):
        advance(cell, done, 0, 0)
        run_cell(cell, out, loader, partial(advance, cell, done), tracks, plan.elsewhere)
        by_cell[cell.task, cell.method, cell.seed] = read_result(out / cell.folder)
        following = plan.cells[done + 1] if done + 1 < len(plan.cells) else None
        if following is None or (following.task, following.seed) != (cell.task, cell.seed):
            finished(Results(plan, by_cell))
    return Results(plan, by_cell)


def claimed(out: Path) -> bool:
    """Check that a comparison may use a folder, before anything is written into it.

    Returns:
        Whether a comparison is there already; otherwise the folder is absent or empty.

    Raises:
        RunError: It holds something else.
    """
    if holds_nothing(out):
        return False
    refuse_link(out / SOURCE)
    refuse_link(out / "cells")
    refuse_link(out / PRIVATE)
    source = read_json(out / SOURCE) if (out / SOURCE).exists() else None
    if not isinstance(source, dict) or not {"methods"} <= set(source) <= KEYS:
        raise RunError(
            f"{out} holds things that are no comparison of this package "
            f"({contents_in_words(out)}); nothing was touched. Choose a folder with --out that is "
            "absent or empty"
        )
    return True


def refuse_another_comparison(plan: Comparison, out: Path) -> None:
    """Check that a comparison holds all of the one in its folder, before that one is replaced.

    It may have more tasks, methods or seeds, and other options where no round is complete.

    Raises:
        RunError: A cell is missing from it, or has complete rounds with another configuration.
    """
    if not (out / SOURCE).exists():
        return
    old = read_json(out / SOURCE)
    try:
        before = {(c.task, c.method, c.seed) for c in comparison(old).cells}
    except ConfigError as error:
        raise RunError(f"{out / SOURCE} cannot be continued: {error}") from error
    gone = sorted(before - {(c.task, c.method, c.seed) for c in plan.cells})
    if gone:
        task, method, seed = gone[0]
        raise RunError(
            f"{out} holds another comparison, of which {len(gone)} cells are not in this one, such "
            f"as task {task!r}, method {method!r}, seed {seed}; nothing was touched. Continue it "
            "with a file that holds them, too, or choose another folder with --out"
        )
    for cell in plan.cells:
        run = RunDirectory(out / cell.folder)
        if is_finished(run.path) or ((run.path / "config.json").exists() and run.metrics()):
            sections = dict(cell.config.sections)
            divided = (run.divided, is_private(sections))
            refuse_other_run(run.path, (run.config, run.task), (sections, run.task), divided)


def _check_all(plan: Comparison, out: Path, loader: ExperimentLoader, advance: Advance) -> None:
    """Prepare every pair of task and method once, so that errors show before the first run."""
    for label, section in plan.elsewhere.items():
        try:
            loader.other_dataset(section)
        except PFedMoAPError as error:
            raise type(error)(f"elsewhere.{label}: {error}") from error
    for cell in plan.cells:
        first = cell.seed == plan.cells[0].seed
        if first and not is_finished(out / cell.folder):
            advance(cell, 0, 0, 0)
            try:
                loader.prepare(cell.config).privatizer(None)
            except PFedMoAPError as error:
                raise type(error)(f"task {cell.task!r}, method {cell.method!r}: {error}") from error


def run_cell(
    cell: Cell,
    out: Path,
    loader: ExperimentLoader,
    watch: Callable[[int, int], None] = lambda *_: None,
    tracks: Tracks = NOT_TRACKED,
    elsewhere: Mapping[str, Section] | None = None,
) -> None:
    """Run one cell to its end, unless it is finished already.

    Args:
        cell: The cell.
        out: Folder of the comparison.
        loader: Loads what it names.
        watch: Called after each round.
        tracks: Which trackers are told of it.
        elsewhere: Other data sets to test it on, by label.

    Raises:
        RunError: It was run with another configuration.
    """
    folder = out / cell.folder
    protocols = Protocols.of(cell.config, elsewhere)
    run = RunDirectory(folder)
    if is_finished(folder) and protocols.done(_figures(run)):
        sections = dict(cell.config.sections)
        RunDirectory.create(folder, sections, run.task, resume=True, divided=is_private(sections))
        return
    experiment = loader.prepare(cell.config)
    name = f"{cell.task} | {cell.method} | seed {cell.seed}"
    with tracks.told(folder, loader, name) as told:
        outcome = run_experiment(
            experiment,
            folder,
            resume=True,
            watch=watch,
            announce=told.begin,
            listen=told.round,
        )
        told.end()
    if protocols:
        figures = figures_by(protocols, experiment, outcome.final, loader)
        write_json(run.layout.where(GENERALISATION), figures, private=run.divided)
        run.finish(GENERALISATION)


def _figures(run: RunDirectory) -> Mapping[str, Any] | None:
    place = run.whole(GENERALISATION)
    return read_json(place) if place.exists() else None


def promises_privacy(plan: Comparison) -> bool:
    """Whether any cell is private, in which case all tables are private."""
    return any(is_private(cell.config.sections) for cell in plan.cells)


def read_results(out: Path) -> Results:
    """Read the finished cells of a comparison.

    Raises:
        RunError: The folder holds no comparison, or one without a finished cell.
    """
    plan = comparison(read_json(out / SOURCE))
    found = {
        (cell.task, cell.method, cell.seed): read_result(out / cell.folder)
        for cell in plan.cells
        if is_finished(out / cell.folder)
    }
    if not found:
        raise RunError(f"{out} has no finished cell yet; continue it with --resume")
    return Results(plan, found)
