"""Which points are tried next."""

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from eval.logs import muted
from eval.sweep.options import GridSearch, OptunaSearch
from eval.sweep.space import Point, Range, Space, grid, points_in
from eval.sweep.spec import Sweep, Trial
from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator


def require_search(sweep: Sweep) -> None:
    """Refuse a search whose package is not installed.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(sweep.search, OptunaSearch) and find_spec("optuna") is None:
        raise ConfigError(
            "search optuna needs the package optuna, which is not installed: "
            "`pip install 'pfedmoap[sweep]'`"
        )


def planned_trials(sweep: Sweep) -> int:
    """How many trials there will be."""
    if isinstance(sweep.search, GridSearch):
        return points_in(sweep.space) or 0
    return sweep.search.trials


def next_trials(sweep: Sweep, trials: Sequence[Trial], scores: Mapping[int, float]) -> list[Trial]:
    """Make the next trials that can run side by side; none where the search is over.

    Args:
        sweep: The sweep.
        trials: The trials so far, all of them done.
        scores: Their scores by number; a trial that failed has none.

    Returns:
        The trials. They depend on the arguments alone.
    """
    search = sweep.search
    if isinstance(search, GridSearch):
        points = [] if trials else grid(sweep.space)
    else:
        left = search.trials - len(trials)
        points = _drawn(sweep.space, search, trials, scores, min(search.at_once, left))
    batch = trials[-1].batch + 1 if trials else 0
    return [Trial(len(trials) + i, batch, point) for i, point in enumerate(points, 1)]


def _drawn(
    space: Space,
    search: OptunaSearch,
    trials: Sequence[Trial],
    scores: Mapping[int, float],
    count: int,
) -> list[Point]:
    if count <= 0:
        return []
    optuna = import_module("optuna")
    # A sampler keeps no state but its stream: a new one for each batch makes what is drawn after a
    # kill the same as without one.
    batch = trials[-1].batch + 1 if trials else 0
    seed = int(numpy_generator(search.seed, "sweep", batch).integers(2**31))
    with muted("optuna"), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = (
            optuna.samplers.RandomSampler(seed=seed)
            if search.sampler == "random"
            else optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        axes = {name: _distribution(optuna, axis) for name, axis in space.items()}
        states = optuna.trial.TrialState
        for trial in trials:
            score = scores.get(trial.number)
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: _inner(space[name], trial.point[name]) for name in space},
                    distributions=axes,
                    value=score,
                    state=states.FAIL if score is None else states.COMPLETE,
                )
            )
        return [
            {name: _outer(space[name], value) for name, value in study.ask(axes).params.items()}
            for _ in range(count)
        ]


def _distribution(optuna: Any, axis: Any) -> Any:  # Optuna's own types
    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution(tuple(range(len(axis.values))))
    if axis.whole:
        step = 1 if axis.step is None else int(axis.step)
        return optuna.distributions.IntDistribution(axis.low, axis.high, log=axis.log, step=step)
    return optuna.distributions.FloatDistribution(
        float(axis.low), float(axis.high), log=axis.log, step=axis.step
    )


def _inner(axis: Any, value: Any) -> Any:
    return value if isinstance(axis, Range) else axis.values.index(value)


def _outer(axis: Any, value: Any) -> Any:
    return value if isinstance(axis, Range) else axis.values[value]
