"""Trackers by name, for ``--track``; what is not installed is refused before anything runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.api.callbacks import Callback, Callbacks
from eval.experiment import ExperimentLoader
from pfedmoap.errors import ConfigError

KINDS = {
    "csv": ("eval.tracking.to_csv", "CSVTracker", None),
    "tensorboard": ("eval.tracking.to_tensorboard", "TensorBoardTracker", "tensorboard"),
    "mlflow": ("eval.tracking.to_mlflow", "MLflowTracker", "mlflow"),
    "wandb": ("eval.tracking.to_wandb", "WandBTracker", "wandb"),
}
"""By name: module and class, and the package that it needs."""

FOLDER = "tracking"
"""Folder of trackers inside that of a run, or of runs that belong together."""

HELP = f"trackers to tell of each round, with commas between them: {', '.join(KINDS)}"


@dataclass(frozen=True)
class Tracks:
    """Which trackers are told of runs.

    Attributes:
        kinds: Their names.
        home: Folder for what several runs share; ``None`` where each stands alone.
        group: What the runs belong to; ``None`` where each stands alone.
    """

    kinds: tuple[str, ...] = ()
    home: Path | None = None
    group: str | None = None

    @classmethod
    def of(
        cls, names: str | Iterable[str], home: Path | None = None, group: str | None = None
    ) -> "Tracks":
        """Read ``--track``, and refuse what cannot be.

        Raises:
            ConfigError: A name is unknown or given twice, or its package is not installed.
        """
        given = names.split(",") if isinstance(names, str) else list(names)
        kinds = tuple(name.strip() for name in given if name.strip())
        for kind in kinds:
            check_kind(kind)
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"--track names a tracker twice: {', '.join(kinds)}")
        return cls(kinds, home, group)

    @contextmanager
    def told(
        self,
        run: Path,
        loader: ExperimentLoader | None = None,
        name: str | None = None,
        others: Iterable[Callback] = (),
    ) -> Iterator[Callbacks]:
        """Make what is called while a run is going on; trackers are let go at the end.

        Args:
            run: The run's folder.
            loader: Loads what pictures of the report need.
            name: What to call the run; ``None`` for the folder's name.
            others: Further callbacks, which are called first.
        """
        if not self.kinds:
            yield Callbacks(others)
            return
        from eval.tracking.tracker import Tracking

        own = [
            Tracking(
                made(kind, {}), run, home=self.home, name=name, group=self.group, loader=loader
            )
            for kind in self.kinds
        ]
        try:
            yield Callbacks([*others, *own])
        finally:
            for one in own:
                one.close()


NOT_TRACKED = Tracks()


def check_kind(kind: str) -> None:
    """Refuse a tracker that cannot be.

    Raises:
        ConfigError: There is none of this name, or its package is not installed.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS) or list(KINDS)
        raise ConfigError(f"there is no tracker {kind!r}; nearest: {', '.join(near)}")
    package = KINDS[kind][2]
    if package is not None and find_spec(package) is None:
        raise ConfigError(
            f"the tracker {kind} needs the package {package}, which is not installed: "
            "`pip install 'pfedmoap[tracking]'`"
        )


def made(kind: str, options: Mapping[str, Any]) -> Any:  # a `Tracker`
    """Make a tracker.

    Args:
        kind: Its name.
        options: What its class takes.

    Raises:
        ConfigError: There is none of this name or with such options, or its package is missing.
    """
    check_kind(kind)
    module, name, _ = KINDS[kind]
    make: Callable[..., Any] = getattr(import_module(module), name)
    try:
        return make(**options)
    except TypeError as error:
        raise ConfigError(
            f"the tracker {kind} does not take {', '.join(options)}: {error}"
        ) from error
