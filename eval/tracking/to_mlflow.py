"""MLflow, through its client alone, beside whatever else the process does with MLflow."""

import os
import time
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.api.rows import Row
from eval.logs import muted
from eval.tracking.public import flat
from eval.tracking.tracker import Final, Tracked
from pfedmoap.runs.log import Record

_LONGEST_VALUE = 500  # of a parameter, in MLflow's stores of all versions
_AT_ONCE = 100  # parameters in one request
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
        local = f"sqlite:///{tracked.home.resolve() / 'mlflow.db'}"
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or local
        if known is not None:
            uri = self._uri or known["uri"]
        if uri == local:
            tracked.home.mkdir(parents=True, exist_ok=True)
        make = import_module("mlflow.tracking").MlflowClient
        with muted("mlflow"), muted("alembic"), warnings.catch_warnings():
            # They tell of each table that they make, and of what SQLAlchemy will drop.
            warnings.filterwarnings("ignore", "The ``noload`` loader strategy")
            self._client = make(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        if known is not None:
            self._run, self._ended = known["run_id"], True
            history = self._client.get_metric_history(self._run, "round")
            return dict(known), max((int(one.step) for one in history), default=0)
        place = (tracked.home.resolve() / "mlflow-artifacts").as_uri() if uri == local else None
        if self._run is None:  # or what came after this failed
            experiment = self._experiment_id(tracked.group, place)
            self._run = self._client.create_run(experiment, run_name=tracked.name).info.run_id
        entities = import_module("mlflow.entities")
        params = [
            entities.Param(name, str(value)[:_LONGEST_VALUE])
            for name, value in flat(tracked.config)
        ]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _AT_ONCE])
        return {"uri": uri, "run_id": self._run}, 0

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
