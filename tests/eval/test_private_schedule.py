"""Noise of a private run is calibrated for the cohorts that its engine really draws."""

import json
from collections import Counter

import pytest

from eval.choices import schema
from eval.experiment import ExperimentLoader
from eval.running import run_experiment
from pfedmoap.errors import RunError


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Six clients, two of them unseen, of which two train in each of six rounds."""
    return {
        "partition": {"name": "iid", "clients": 6},
        "sampling": {"shots": 6, "unseen_clients": 2},
        "features": {"cache": str(tmp_path_factory.mktemp("cache"))},
        "method": {"name": "promptfl", "context_length": 2},
        "training": {"epochs": 1},
        "rounds": {"rounds": 6, "participation": 0.5, "evaluate_every": 6},
        "backbone": {"device": "cpu"},
        "privacy": {"name": "release", "epsilon": 5.0},
    }


@pytest.fixture(scope="module")
def loader():
    return ExperimentLoader(progress=False)


def run(loader, config, out, resume=False):
    experiment = loader.prepare(schema().resolve(config))
    return run_experiment(experiment, out, resume=resume, progress=False)


def read_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def changed(config, **sections):
    return config | {name: config[name] | values for name, values in sections.items()}


@pytest.mark.parametrize("seed", [0, 3])
def test_the_client_that_is_drawn_most_ends_at_its_budget(loader, config, tmp_path, seed):
    run(loader, config | {"seeds": {"training": seed}}, tmp_path / "run")
    lines = read_lines(tmp_path / "run")
    drawn = Counter(client for line in lines for client in line["cohort"])
    statement = json.loads((tmp_path / "run/privacy.json").read_text())
    assert statement["rounds_planned"] == max(drawn.values()) < 6
    assert all(line["sat_out"] == {} for line in lines)
    spent = {client: line["epsilon"][client] for line in lines for client in line["epsilon"]}
    assert 4.95 < max(spent.values()) <= 5.0
    most = {str(client) for client, count in drawn.items() if count == max(drawn.values())}
    assert {client for client, epsilon in spent.items() if epsilon > 4.95} == most


def test_a_run_with_a_cap_leaves_out_whoever_reached_it(loader, config, tmp_path):
    capped = changed(config, privacy={"max_rounds_per_client": 1})
    run(loader, capped, tmp_path / "run")
    lines = read_lines(tmp_path / "run")
    served = [client for line in lines for client in line["cohort"]]
    assert sorted(served) == sorted(set(served))
    left_out = {why for line in lines for why in line["sat_out"].values()}
    assert left_out
    assert all("max_rounds_per_client is 1" in why for why in left_out)


def test_a_run_cannot_be_made_longer(loader, config, tmp_path):
    run(loader, config, tmp_path / "run")
    longer = changed(config, rounds={"rounds": 9})
    with pytest.raises(RunError, match=r"noise of .* was made to last for 6 rounds"):
        run(loader, longer, tmp_path / "run", resume=True)
    uncapped = changed(config, privacy={"max_rounds_per_client": 4})
    with pytest.raises(RunError, match="max_rounds_per_client was None, is 4"):
        run(loader, uncapped, tmp_path / "run", resume=True)
