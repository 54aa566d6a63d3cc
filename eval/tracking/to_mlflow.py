"""MLflow, through its client alone, beside whatever else the process does with MLflow."""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.api.rows import Row
from eval.logs import muted
from eval.tracking.public import flat
from eval.tracking.tracker import Final, Tracked
from pfedmoap.runs.log import Record
from pfedmoap.storage.locks import locked

_LONGEST_VALUE = 500  # of a parameter, in MLflow's stores of all versions
_AT_ONCE = 100  # parameters in one request
DATA_BASE = "mlflow.db"
_LOCK_SECONDS = 120.0
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is gone costs seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MLflowTracker:
    """Logs to a tracking server, or to a data base in the run's folder.

    Args:
        uri: Where to; ``None`` takes ``MLFLOW_TRACKING_URI``, and without it an SQLite file
            ``tracking/mlflow.db``, with the artefacts beside it.
        experiment: The experiment; ``None`` takes ``MLFLOW_EXPERIMENT_NAME``, and without it what
            the run belongs to, or ``pfedmoap``.
    """

    kind = "mlflow"

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        self._uri, self._experiment = uri, experiment
        self._run: str | None = None
        self._ended = False

    def open(
        self,
        tracked: Tracked,
        known: Mapping[str, Any] | None,
        noted: int,  # noqa: ARG002
    ) -> tuple[Record, int | None]:
        """Make a run, or go on with the one that is known, which says what it has."""
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        file = tracked.home.resolve() / DATA_BASE
        if known is not None and known["file"] is not None:
            file = (tracked.run.resolve() / known["file"]).resolve()  # also where both have moved
        uri = self._uri or (known or {}).get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
        with ExitStack() as stack:
            if uri is None:
                # Several processes that make one data base at a time leave a broken one.
                file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(file.with_name(f".{DATA_BASE}.lock"), _LOCK_SECONDS))
                stack.enter_context(_quiet())
                if not file.exists():
                    _make_data_base(file)
            self._client = _client(uri or f"sqlite:///{file}")
            if known is not None:
                self._run, self._ended = known["run_id"], True
                history = self._client.get_metric_history(self._run, "round")
                return dict(known), max((int(one.step) for one in history), default=0)
            if self._run is None:  # or what came after this failed
                place = None if uri else (file.parent / "mlflow-artifacts").as_uri()
                experiment = self._experiment_id(tracked.group, place)
                self._run = self._client.create_run(experiment, run_name=tracked.name).info.run_id
        entities = import_module("mlflow.entities")
        params = [
            entities.Param(name, str(value)[:_LONGEST_VALUE])
            for name, value in flat(tracked.config)
        ]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _AT_ONCE])
        place_of_file = None if uri else os.path.relpath(file, tracked.run.resolve())
        return {"uri": uri, "file": place_of_file, "run_id": self._run}, 0

    def log(self, figures: Row, clients: list[Row]) -> None:  # noqa: ARG002
        """Log a round in one request."""
        if self._ended:
            self._client.update_run(self._run, status="RUNNING")
            self._ended = False
        metric = import_module("mlflow.entities").Metric
        now, step = int(time.time() * 1000), figures["round"]
        metrics = [metric(name, float(value), now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, final: Final) -> None:
        """Log tables and pictures as artefacts, and end the run."""
        with TemporaryDirectory() as folder:
            for name, content in final.files.items():
                (Path(folder) / name).write_text(content)
            for drawn in final.pictures:
                (Path(folder) / "report").mkdir(exist_ok=True)
                (Path(folder) / "report" / f"{drawn.name}.png").write_bytes(drawn.png)
            self._client.log_artifacts(self._run, folder)
        self._client.set_terminated(self._run, "FINISHED")

    def close(self) -> None:
        """Nothing is open."""

    def _experiment_id(self, group: str | None, place: str | None) -> str:
        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or group or "pfedmoap"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            made: str = self._client.create_experiment(name, artifact_location=place)
            return made
        return str(found.experiment_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what tells of each table that is made, and of what SQLAlchemy will drop."""
    import_module("mlflow.tracking")  # which sets up its logging
    with muted("mlflow"), muted("alembic"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy")
        warnings.filterwarnings("ignore", "Unnamed CHECK constraint")
        yield


def _client(uri: str) -> Any:  # MLflow's client
    return import_module("mlflow.tracking").MlflowClient(tracking_uri=uri)


def _make_data_base(file: Path) -> None:
    """Make a data base beside its place and move it there, so that a kill leaves none half-made."""
    with TemporaryDirectory(dir=file.parent, prefix=".mlflow-") as folder:
        made = Path(folder) / DATA_BASE
        _client(f"sqlite:///{made}").search_experiments(max_results=1)
        os.replace(made, file)
