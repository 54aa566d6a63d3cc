"""What the page tells about one client is what the run says about it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eval.experiment import ExperimentLoader
from eval.predictions import NO_CLASS, Answers
from eval.report import client_data as module
from eval.report.client_data import client_data, clients_by_round, clients_in_words, confusion
from eval.report.expert_plots import served_matrix
from eval.report.page import render
from eval.report.run_data import Evidence, read_evidence
from eval.report.run_section import run_part
from tests.helpers.pages import check_page
from tests.helpers.reports import with_clients


@pytest.fixture(scope="module")
def run(finished_run, loader: ExperimentLoader) -> Evidence:
    return read_evidence(finished_run, loader)


def test_each_client_has_its_own_figures(run: Evidence):
    data = client_data(run)
    json.dumps(data, allow_nan=False)
    assert data["rounds"] == [1, 2]
    for shown, score, answers in zip(data["clients"], run.scores, run.predictions, strict=True):
        facts = dict(shown["facts"])
        assert facts["accuracy"] == f"{100 * score.accuracy:.1f}%"
        assert facts["test images"] == str(score.test_images)
        logged = [record["accuracy"][str(score.client)] for record in run.records]
        assert shown["curve"] == pytest.approx([100 * value for value in logged], abs=0.01)
        counted = sum(n for truth, said, n in shown["confusion"] if truth == said)
        assert counted == round(score.accuracy * score.test_images)
        assert sum(n for *_, n in shown["confusion"]) == score.test_images
        assert sum(n for _, n in shown["images"]) == score.train_images
        served = [g for r in run.records for g in r["served"].get(str(score.client), [])]
        assert sum(n for _, n in shown["experts"]) == len(served)
        assert {giver for giver, _ in shown["experts"]} == set(served)
        assert sum(share for _, share in shown["attention"]) == pytest.approx(100, abs=0.1)
        assert [giver for giver, _ in shown["attention"]] == [None, *answers.gate.experts]


def test_what_a_run_does_not_have_is_left_out(run: Evidence):
    bare = replace(
        run,
        records=[r | {"accuracy": {}} for r in run.records[-1:]],
        predictions=tuple(replace(one, gate=None, shared=None) for one in run.predictions),
        scores=tuple(replace(one, global_accuracy=None) for one in run.scores),
        zero_shot=None,
    )
    (client, *_) = client_data(bare)["clients"]
    assert "attention" not in client
    assert client["curve"] == [None]
    assert {"zero-shot", "global model"}.isdisjoint(dict(client["facts"]))
    assert clients_in_words(bare).rows[0][3] == "-"


def test_a_run_that_diverged_has_its_page(run: Evidence):
    nan = float("nan")
    lost = [
        record
        | {"accuracy": record["accuracy"] | {"0": nan}}
        | {"evaluation": record["evaluation"] | {"mean": nan, "worst_decile": nan}}
        for record in run.records
    ]
    scores = (replace(run.scores[0], accuracy=nan, macro_f1=nan, ece=nan), *run.scores[1:])
    diverged = replace(run, records=lost, scores=scores)
    data = client_data(diverged)
    assert data["mean"] == data["clients"][0]["curve"] == [None, None]
    assert data["clients"][1]["curve"] != [None, None]
    check_page(render("x", [run_part(diverged)]))


def test_a_federation_of_one_client_one_class_and_one_round_has_its_page(run: Evidence):
    [own] = with_clients(run, 1).predictions
    mute = replace(own.personal, predicted=np.zeros_like(own.personal.predicted))
    task = dict(run.task) | {"class_names": ["only"], "domains": []}
    sole = replace(
        with_clients(run, 1),
        records=run.records[-1:],
        task=task | {"clients": [{"client": 0, "domain": None, "train": [3], "test": [2]}]},
        predictions=(replace(own, labels=np.zeros_like(own.labels), personal=mute, shared=mute),),
    )
    check_page(render("x", [run_part(sole)]))


def test_without_a_script_a_table_has_every_clients_curve(run: Evidence):
    table = clients_by_round(run)
    assert table is not None
    assert table.headings == ("client", "round 1, %", "round 2, %")
    for row, score in zip(table.rows, run.scores, strict=True):
        assert float(row[2]) == pytest.approx(100 * score.accuracy, abs=0.01)
    assert clients_by_round(replace(run, records=run.records[-1:])) is None


def test_no_answer_is_counted_as_a_mistake(run: Evidence):
    one = run.predictions[0]
    count = len(one.labels)
    silent = replace(one, personal=Answers(np.full(count, NO_CLASS), np.zeros(count)), gate=None)
    assert {pair[1] for pair, _ in confusion(silent)} == {NO_CLASS}
    words = clients_in_words(replace(run, predictions=(silent, *run.predictions[1:])))
    assert "as no answer (" in words.rows[0][1]


def test_lists_are_bounded(run: Evidence, monkeypatch: pytest.MonkeyPatch):
    for name in ("POINTS", "CONFUSIONS", "EXPERTS"):
        monkeypatch.setattr(module, name, 1)
    data = client_data(with_clients(run, 6))
    assert data["rounds"] == [1, 2]  # the first and the last, however few
    assert all(len(one["confusion"]) <= 1 and len(one["experts"]) <= 1 for one in data["clients"])


def test_a_site_that_left_takes_no_figures_of_others_with_it(run: Evidence):
    """Numbers of a federation's clients have gaps once a site has left."""
    task = dict(run.task) | {"clients": [run.task["clients"][0], run.task["clients"][2]]}
    records = [
        {**run.records[0], "served": {}},
        {**run.records[1], "served": {"0": [1, 2], "1": [2], "2": [0, 0]}},
    ]
    scores = (run.scores[0], run.scores[2])
    left = replace(run, task=task, records=records, predictions=(), scores=scores)
    assert served_matrix(left).tolist() == [[0, 1], [2, 0]]
    data = client_data(left)
    assert [one["id"] for one in data["clients"]] == [0, 2]
    assert [one["experts"] for one in data["clients"]] == [[[2, 1]], [[0, 2]]]
    assert all("confusion" not in one and "attention" not in one for one in data["clients"])
    assert [row[0] for row in clients_in_words(left).rows] == ["0", "2"]
    assert clients_in_words(left).rows[1][1:3] == ("not known here", "client 0 (2)")
