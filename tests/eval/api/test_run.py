"""A run as an object: what it says is what its folder says."""

import csv
import shutil

import pytest

import pfedmoap
from pfedmoap.errors import DataError, PFedMoAPError, RunError


def test_it_tells_what_is_on_disk(finished_run):
    run = pfedmoap.load(str(finished_run))
    assert run.round == 2
    assert run.clients == (0, 1, 2, 3)
    assert run.config["method"]["name"] == "pfedmoap"
    assert run.metrics.column("round") == [1, 2]
    assert run.privacy == {}
    assert run.epsilon == {}
    assert run == pfedmoap.load(finished_run)


def test_evaluating_gives_the_scores_of_the_run(finished_run):
    run = pfedmoap.load(finished_run)
    found = run.evaluate()
    assert found.round == 2
    assert found.summary.mean == run.metrics[-1]["mean"]
    with (finished_run / "per_client.csv").open(newline="") as file:
        table = {int(row["client"]): float(row["accuracy"]) for row in csv.DictReader(file)}
    assert {row["client"]: row["accuracy"] for row in found.table} == pytest.approx(table)


def test_data_that_have_no_place_cannot_have_moved(finished_run, tmp_path):
    with pytest.raises(PFedMoAPError, match="has no place"):
        pfedmoap.load(finished_run).evaluate(root=tmp_path)


def test_a_client_that_is_not_there_is_refused(finished_run):
    with pytest.raises(RunError, match="no client 9"):
        pfedmoap.load(finished_run).client(9)


def test_images_of_the_wrong_kind_are_refused(finished_run):
    with pytest.raises(DataError, match="put"):
        pfedmoap.load(finished_run).client(3).classify("digit.png")


def test_what_is_no_run_is_refused_at_once(finished_run, tmp_path):
    with pytest.raises(RunError):
        pfedmoap.load(tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(finished_run, broken)
    (broken / "config.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        pfedmoap.load(broken)
