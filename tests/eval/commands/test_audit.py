"""The audit as a command: its record, its page, and the audit of a run."""

import json
import math

import pytest

from eval.choices import schema
from eval.commands import audit, train
from eval.report.page import BEGINNING

SMALL = [
    "--method",
    "promptfl",
    "--method.context_length",
    "4",
    "--audit_clients",
    "2",
    "--audit_rounds",
    "2",
    "--canaries",
    "4",
    "--gradient_canaries",
    "40",
    "--members",
    "3",
    "--backbone.device",
    "cpu",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return ["--features.cache", str(tmp_path_factory.mktemp("cache"))]


def audited(arguments, out):
    """Run the command; gives the record and how it ended."""
    try:
        audit.main([*arguments, "--out", str(out)])
    except SystemExit as end:
        return json.loads(out.read_text()), end.code
    return json.loads(out.read_text()), 0


def test_the_record_says_what_was_claimed_measured_and_found(tmp_path, cache):
    five = ["--sampling.classes", "base"]  # classes, whose texts a step encodes
    given = [*SMALL, *cache, *five, "--privacy.epsilon", "8"]
    record, code = audited(given, tmp_path / "audit.json")
    assert code == (0 if record["passed"] else 2)
    assert record["failed_for"] == []
    assert record["passed"]
    assert (record["schema"], record["schema_version"]) == ("pfedmoap.audit", 1)
    assert record["claim"]["epsilon"] == 8.0
    assert record["rounds"] == {"audited": 2, "planned": 3}
    assert record["data"]["stand_in_because"] is None
    assert record["canaries_of_a_client"] == {"image": 4, "gradient": 40}
    assert set(record["threat_models"]) == {"uploads", "steps"}
    assert 0 <= record["ideal"]["f_dp"] <= 8.0
    assert schema().resolve(record["configuration"]).name("method") == "promptfl"
    names = [verdict["name"] for verdict in record["verdicts"]]
    assert len(names) == len(set(names))
    assert "joint" in names
    for verdict in record["verdicts"]:
        for view in verdict["views"]:
            assert [bound["method"] for bound in view["bounds"]] == ["steinke-2023", "f-dp-2024"]
            assert all(bound["confidence"] == 0.95 for bound in view["bounds"])
        if verdict["sound"]:
            assert not verdict["seen_in"]
        else:
            assert verdict["seen_in"]
            assert math.isfinite(verdict["claimed_epsilon"])
    page = (tmp_path / "audit.html").read_text()
    assert all(words in page for words in ("joint", "Ideal canaries", "<svg"))
    assert "http" not in page.replace("http-equiv", "")


def test_a_runs_own_options_are_audited_and_the_record_lies_in_it(tmp_path, cache):
    run = tmp_path / "run"
    train.main(
        [
            "--method",
            "promptfl",
            "--method.context_length",
            "4",
            "--partition",
            "iid",
            "--partition.clients",
            "3",
            "--rounds.rounds",
            "2",
            "--training.epochs",
            "1",
            "--privacy",
            "release",
            "--privacy.epsilon",
            "5",
            "--quiet",
            "true",
            "--backbone.device",
            "cpu",
            *cache,
            "--out",
            str(run),
        ]
    )
    audit.main([str(run), "--audit_clients", "2", "--canaries", "4", "--members", "3"])
    record = json.loads((run / "private" / "audit.json").read_text())
    assert record["claim"] == {
        "mechanism": "release",
        "method": "promptfl",
        "epsilon": 5.0,
        "delta": 1e-5,
        "unit": "client",
    }
    assert record["passed"]
    assert record["ideal"] is None
    assert (run / "private" / "audit.html").exists()
    assert (run / "private").stat().st_mode & 0o777 == 0o700
    assert record["verdicts"][1]["claimed_epsilon"] == pytest.approx(5.0, rel=1e-3)


def test_data_that_cannot_be_loaded_are_replaced_by_digits_and_it_is_said(tmp_path, cache):
    gone = ["--data", "folder", "--data.root", str(tmp_path / "gone")]
    record, _ = audited([*SMALL, *cache, *gone, "--privacy", "release"], tmp_path / "audit.json")
    assert record["data"]["name"] == "digits"
    assert "folder could not be loaded" in record["data"]["stand_in_because"]
    assert "could not be loaded" in (tmp_path / "audit.html").read_text()


def test_a_folder_that_is_no_run_and_a_run_without_a_claim_are_refused(tmp_path, capsys, cache):
    with pytest.raises(SystemExit):
        audit.main([str(tmp_path)])
    assert "is a run directory" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        audit.main([*SMALL, *cache, "--privacy", "none", "--out", str(tmp_path / "a.json")])
    assert "audit needs a claim" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("out", "there", "refused"),
    [
        ("README.md", "README.md", "ends in .json"),
        ("audit.html", "audit.html", "ends in .json"),
        ("a.json", "a.json", "a.json is there and is not a record of an audit"),
        ("a.json", "a.html", "a.html is there and is not the page of an audit"),
    ],
)
@pytest.mark.parametrize("content", ["# mine", '{"mine": 1}', "[]"])
def test_files_that_are_not_its_own_are_left_alone(tmp_path, capsys, out, there, refused, content):
    (tmp_path / there).write_text(content)
    with pytest.raises(SystemExit):
        audit.main([*SMALL, "--out", str(tmp_path / out)])
    shown = " ".join(capsys.readouterr().err.split())
    assert refused in shown.replace(f"{tmp_path}/", "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: content}


def test_its_own_files_and_empty_ones_may_be_replaced(tmp_path):
    for name, content in (
        ("b.json", '{"schema": "pfedmoap.audit"}'),
        ("b.html", BEGINNING.decode()),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "c.html").touch()
    for name in ("a", "b", "c"):
        found = audit.places_of(tmp_path / f"{name}.json")
        assert [path.name for path in found] == [f"{name}.json", f"{name}.html"]
