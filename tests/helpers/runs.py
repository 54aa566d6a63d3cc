"""Configurations that train in a second, and runs that several tests of reports share."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.choices import schema
from eval.experiment import ExperimentLoader
from eval.running import run_experiment
from pfedmoap.runs.layout import PRIVATE
from pfedmoap.runs.manifest import read_manifest, write_manifest

CONTEXT = {"name": "pfedmoap", "context_length": 2, "experts": 2, "gate_learning_rate": 0.2}


def small(cache: Path, **sections: Any) -> dict[str, Any]:  # options of any type
    """A configuration of four clients that takes a fraction of a second."""
    base: Mapping[str, Any] = {
        "data": {"name": "digits"},
        "partition": {"name": "dirichlet", "clients": 4, "alpha": 0.5},
        "method": CONTEXT,
        "sampling": {"shots": 4},
        "training": {"epochs": 1, "learning_rate": 0.05, "batch_size": 32},
        "rounds": {"rounds": 2},
        "features": {"cache": str(cache)},
    }
    return {**base, **sections}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def loader() -> ExperimentLoader:
    return ExperimentLoader(progress=False)


@pytest.fixture(scope="session")
def finished_run(
    cache: Path, loader: ExperimentLoader, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished pFedMoAP run; tests read it and never write."""
    out = tmp_path_factory.mktemp("runs") / "small"
    config = schema().resolve(small(cache))
    run_experiment(loader.prepare(config), out, progress=False)
    return out


def without_checksums(run: Path) -> None:
    """Take a run's checksums away, but for those of shards, so that a test may edit its files."""
    for folder in (run, run / PRIVATE):
        if (found := read_manifest(folder)) is not None:
            states = {file: found.sha256[file] for file in (*found.rows, *found.shards)}
            write_manifest(folder, replace(found, sha256=states, lines={}))


@pytest.fixture(scope="session")
def private_run(
    cache: Path, loader: ExperimentLoader, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run with private steps, whose clients take part in 1 to 3 rounds."""
    out = tmp_path_factory.mktemp("private runs") / "small"
    run_experiment(loader.prepare(schema().resolve(private(cache))), out, progress=False)
    return out


def private(cache: Path) -> dict[str, Any]:  # options of any type
    """A configuration with private steps, of which clients take unlike numbers."""
    return small(
        cache,
        method={"name": "promptfl", "context_length": 2},
        training={"epochs": 1, "learning_rate": 0.05, "batch_size": 4},
        rounds={"rounds": 3, "participation": 0.5},
        privacy={"name": "dpsgd", "epsilon": 8.0, "delta": 1e-3},
    )
