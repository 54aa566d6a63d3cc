"""A sweep as a YAML file, checked as a whole before anything runs.

```yaml
base: {data: digits, rounds: {rounds: 5}}   # options that all trials share
space:                                       # what is varied: lists, or ranges for Optuna
  training.learning_rate: [0.02, 0.1]
  method.experts: [1, 3]
search: grid                                 # or {name: optuna, trials: 20, sampler: tpe, ...}
seeds: [0, 1]                                # partition, few shots and training
validation: 0.25                             # share of each client's training images held out
metric: mean                                 # chosen by; or worst_decile, global_union, ...
executor: {name: local, workers: 2}          # or here, or {name: slurm, timeout_min: 60, ...}
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.comparison.spec import Cell, Comparison, comparison, folder_of
from eval.sweep.options import (
    EXECUTORS,
    SEARCHES,
    ChosenBy,
    GridSearch,
    HereOptions,
    LocalOptions,
    Metric,
    OptunaSearch,
    SlurmOptions,
    checked_options,
    choice,
)
from eval.sweep.space import Point, Space, corners, grid, label_of, read_space, sections_of
from pfedmoap.config.exact_options import refuse_unknown_keys
from pfedmoap.config.schema import Section
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import read_sections

KEYS = ("base", "space", "search", "seeds", "validation", "metric", "executor")
VALIDATION, TEST = "validation", "test"
"""Tasks of a sweep's comparison."""


@dataclass(frozen=True)
class Trial:
    """One point of a sweep.

    Attributes:
        number: From 1, in the order of their making.
        batch: Which trials were made with it, from 0.
        point: The options that it sets.
    """

    number: int
    batch: int
    point: Point

    @property
    def label(self) -> str:
        """Its name in tables and pages."""
        return label_of(self.number, self.point)


@dataclass(frozen=True)
class Sweep:
    """A sweep that was found to be right.

    Attributes:
        source: Its file's content.
        base: Options that all trials share.
        space: What is varied.
        search: How points are found: `GridSearch` or `OptunaSearch`.
        seeds: Seeds of every trial.
        validation: Share of each client's training images that is held out.
        metric: What the best trial is chosen by.
        executor: Where trials run.
    """

    source: Section
    base: Section
    space: Space
    search: GridSearch | OptunaSearch
    seeds: tuple[int, ...]
    validation: float
    metric: Metric
    executor: HereOptions | LocalOptions | SlurmOptions

    def comparison_source(
        self, trials: list[Trial], chosen: Trial | None = None, tested: bool = True
    ) -> Section:
        """Make the comparison of trials: those on validation images, and the chosen one on test.

        Args:
            trials: The trials.
            chosen: The one that is tested; ``None`` for none.
            tested: Whether the chosen one's task is in it.
        """
        tasks: Section = {VALIDATION: {"sampling": {"validation": self.validation}}}
        source: Section = {
            "base": self.base,
            "tasks": tasks,
            "methods": {trial.label: sections_of(trial.point) for trial in trials},
            "seeds": list(self.seeds),
        }
        if chosen is not None:
            source["reference"] = chosen.label
            if tested:
                tasks[TEST] = {}
                source["only"] = {TEST: [chosen.label]}
        return source

    def cells(self, trial: Trial, task: str) -> tuple[Cell, ...]:
        """A trial's runs, one a seed.

        Args:
            trial: The trial.
            task: `VALIDATION` or `TEST`.

        Raises:
            ConfigError: Its options are wrong.
        """
        made = self.comparison_source([trial], trial)
        made["tasks"] = {task: made["tasks"][task]}
        return comparison({key: value for key, value in made.items() if key != "only"}).cells

    def folders(self, trial: Trial, task: str) -> dict[int, Path]:
        """Where a trial's runs are, by seed, inside the sweep's folder."""
        return {seed: folder_of(task, trial.label, seed) for seed in self.seeds}

    def comparison(self, trials: list[Trial], chosen: Trial | None) -> Comparison:
        """Resolve the comparison of all trials."""
        return comparison(self.comparison_source(trials, chosen))


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep's file.

    Raises:
        ConfigError: It cannot be read, or is wrong; see `sweep`.
    """
    return sweep(read_sections(path))


def sweep(source: Mapping[str, Any], *, checked: bool = True) -> Sweep:
    """Check a sweep as a whole: every point of a grid, and the ends of every range.

    Args:
        source: The file's content.
        checked: Resolve these points; a worker does without, since they were checked before.

    Returns:
        The sweep.

    Raises:
        ConfigError: A key, option or value is wrong; the message says which.
    """
    refuse_unknown_keys(source, KEYS, "a sweep")
    base = source.get("base") or {}
    if not isinstance(base, dict):
        raise ConfigError(f"base must hold sections of options, got {base!r}")
    sampling = base.get("sampling")
    if isinstance(sampling, dict) and "validation" in sampling:
        raise ConfigError("base sets sampling.validation, but `validation` of the sweep does")
    given = {name: source[name] for name in ("validation", "metric") if name in source}
    by = checked_options(ChosenBy, "by", given)
    found = Sweep(
        source=dict(source),
        base=base,
        space=read_space(source.get("space")),
        search=choice(source.get("search", "grid"), SEARCHES, "search"),
        seeds=tuple(source.get("seeds", [0])) if isinstance(source.get("seeds", [0]), list) else (),
        validation=by.validation,
        metric=by.metric,
        executor=choice(source.get("executor", "local"), EXECUTORS, "executor"),
    )
    if not found.seeds:  # the comparison's own check has the message for other mistakes
        raise ConfigError(
            f"seeds must be a list of different whole numbers, got {source['seeds']!r}"
        )
    if checked:
        points = (
            grid(found.space)
            if isinstance(found.search, GridSearch)
            else list(corners(found.space))
        )
        found.comparison([Trial(i, 0, point) for i, point in enumerate(points, 1)], None)
    return found
