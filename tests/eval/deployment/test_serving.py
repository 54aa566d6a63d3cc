"""A whole federation in one process: its run, its resumption, its extension, its status."""

import csv
import json

import pytest

from eval.accuracy import record
from eval.choices import schema
from eval.commands import forget, report, status
from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import FederationFile, new_id
from eval.deployment.host import SiteHost
from eval.deployment.serving import check_continues, client_scores, prepare, serve_rounds
from eval.deployment.site_options import SiteOptions
from eval.deployment.status import SiteStatus, Status, status_of
from eval.erasure_record import check_record
from eval.experiment import ExperimentLoader
from eval.results import read_result
from eval.running import load_outcome
from eval.tracking.choose import Tracks
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.errors import ConfigError, RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.extension import extend
from pfedmoap.wire.messages import ClientId
from tests.helpers.deployed import CLASSES, digits_of
from tests.helpers.flower_grid import MemoryGrid
from tests.helpers.pages import check_page
from tests.helpers.traces import traces_of

SECTIONS = {
    "method": {"name": "pfedmoap", "context_length": 2, "experts": 1},
    "training": {"epochs": 1, "learning_rate": 0.1, "clients_per_batch": 1},
    "backbone": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return [digits_of(site, root / str(site), each=4) for site in range(3)]


def sites_on(images, folder):
    hosts = [
        SiteHost(
            folder / f"site-{i}",
            SiteOptions(f"site-{i}", str(data), device="cpu", insecure_seed=True),
        )
        for i, data in enumerate(images)
    ]
    apps = [make_client_app(lambda _, host=host: host) for host in hosts]
    return MemoryGrid({100 + i: app for i, app in enumerate(apps)})


def file_of(rounds, federation=None, **sections):
    config = schema().resolve({**SECTIONS, "rounds": {"rounds": rounds}, **sections})
    return FederationFile(
        federation or new_id(), dict(config.sections), CLASSES, ("a {}.",), 1, 5, 5
    )


def serve(folder, grid, track=""):
    clock = iter(range(10**9))
    fleet = Fleet(grid, 5, sleep=lambda _: None, clock=lambda: float(next(clock)))
    with Tracks.of(track).told(folder / "run") as told:
        final = serve_rounds(prepare(folder), fleet, announce=told.begin, listen=told.round)
        told.end()
    return final


def states(folder):
    run = folder / "run"
    return {
        file.name: file.read_bytes()
        for file in sorted(run.rglob("*.safetensors"))
        if file.is_file()
    }


def test_a_run_that_was_extended_is_the_run_of_so_many_rounds(
    images, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("eval.tracking.tracker.pictures_of", lambda run, loader: [])
    whole, short = tmp_path / "whole", tmp_path / "short"
    file_of(3).write(whole)
    serve(whole, sites_on(images[:2], tmp_path / "first"))
    file_of(2).write(short)
    grid = sites_on(images[:2], tmp_path / "second")
    serve(short, grid, track="csv")
    assert RunDirectory(short / "run").round == 2
    longer = file_of(3, FederationFile.read(short).federation)
    assert extend(short / "run", longer.sections)
    longer.write(short)
    with pytest.raises(RunError, match="not finished"):
        read_result(short / "run")
    serve(short, grid, track="csv")
    assert states(short) == states(whole)
    tracked = list(csv.DictReader((short / "run/tracking/csv/rounds.csv").read_text().splitlines()))
    assert [row["round"] for row in tracked] == ["1", "2", "3"]
    assert (
        float(tracked[-1]["mean"])
        == RunDirectory(short / "run").metrics()[-1]["evaluation"]["mean"]
    )
    result = read_result(short / "run")
    assert (result.last.round, result.clients) == (3, 2)
    rows = list(csv.DictReader((short / "run" / "per_client.csv").read_text().splitlines()))
    assert [row["client"] for row in rows] == ["0", "1"]
    report.main([str(short / "run"), "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "site-" not in page
    check_page(page)
    assert f"{100 * result.last.summary.mean:.1f}%" in page  # what sites sent, nothing else
    assert "2 sites" in page
    for title in ("Accuracy by client", "One client", "Who holds what", "What the mixture does"):
        assert f"<h2>{title}</h2>" in page
    for elsewhere in ("Calibration", "Map of prompts"):
        assert f"<h2>{elsewhere}</h2>" not in page
    with pytest.raises(RunError, match="at the sites"):
        load_outcome(RunDirectory(short / "run"), ExperimentLoader())
    status.main([str(short)])
    assert "round 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pfedmoap", "promptfl"])
def test_the_global_model_is_tested_at_the_sites_as_on_the_union(images, tmp_path, name):
    folder = tmp_path / "federation"
    options = {"name": name, "context_length": 2} | ({"experts": 1} if name == "pfedmoap" else {})
    file_of(1, method=options).write(folder)
    grid = sites_on(images[:2], tmp_path)
    serve(folder, grid)
    evaluation = RunDirectory(folder / "run").metrics()[-1]["evaluation"]
    if name == "promptfl":  # it is everybody's own model, too
        assert evaluation["global_union"] == pytest.approx(evaluation["weighted_mean"])
    rows = list(csv.DictReader((folder / "run" / "per_client.csv").read_text().splitlines()))
    weighted = [float(row["global_accuracy"]) * int(row["test_images"]) for row in rows]
    union = sum(weighted) / sum(int(row["test_images"]) for row in rows)
    assert evaluation["global_union"] == pytest.approx(union)
    report.main([str(folder / "run"), "--out", str(tmp_path / "page.html")])
    assert "Global model" in (tmp_path / "page.html").read_text()


def test_a_newcomer_is_in_the_task_of_the_run_and_in_its_status(images, tmp_path):
    folder = tmp_path / "federation"
    file_of(1).write(folder)
    grid = sites_on(images, tmp_path)
    late = grid.apps.pop(102)
    serve(folder, grid)
    assert len(RunDirectory(folder / "run").task["clients"]) == 2
    grid.apps[102] = late
    longer = file_of(2, FederationFile.read(folder).federation)
    extend(folder / "run", longer.sections)
    longer.write(folder)
    serve(folder, grid)
    assert [one["client"] for one in RunDirectory(folder / "run").task["clients"]] == [0, 1, 2]
    found = status_of(folder)
    assert [(one.name, one.rounds, one.joined) for one in found.sites] == [
        ("site-0", 2, 1),
        ("site-1", 2, 1),
        ("site-2", 1, 2),
    ]
    assert all(one.up_bytes and one.down_bytes for one in found.sites)


def test_a_status_fits_80_columns_and_what_a_site_says_is_one_line(tmp_path, capsys, monkeypatch):
    file_of(1).write(tmp_path)
    said = "no budget [/b] \x1b[31m is left\nhospital-02: has left"
    site = SiteStatus("hospital-01", ClientId(0), 1, 30, 30, 98_304_000, 98_304_000, 3.125, said)
    monkeypatch.setattr(status, "status_of", lambda folder: Status(30, (site,)))
    monkeypatch.setattr(status.console, "width", 80)
    status.main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert "hospital-01: no budget [/b] \\x1b[31m is left" in shown
    assert "\nhospital-02" not in shown
    row = next(line for line in shown.splitlines() if "93.8 MiB" in line)
    assert row.count("93.8 MiB") == 2
    assert "hospital-01" in row
    assert "3.125" in row


def test_a_private_federation_learns_no_accuracy_and_no_count(images, tmp_path):
    folder = tmp_path / "federation"
    privacy = {"name": "dpsgd", "sample_rate": 0.5, "insecure_seed": 1}
    file_of(1, privacy=privacy).write(folder)
    serve(folder, sites_on(images[:2], tmp_path))
    [record] = RunDirectory(folder / "run").metrics()
    assert "accuracy" not in record
    assert record["epsilon"].keys() == {"0", "1"}
    assert all(one["train"] == [] for one in RunDirectory(folder / "run").task["clients"])
    assert json.loads((folder / "members.json").read_text())["site-0"]["test"] == []
    with pytest.raises(RunError, match=r"noise .* was made to last for 1 rounds"):
        extend(folder / "run", file_of(2, privacy=privacy).sections)


def test_a_central_federation_tells_in_public_nobody_who_counted(images, tmp_path, capsys):
    folder = tmp_path / "federation"
    sections = {
        "privacy": {"name": "central", "noise_multiplier": 2.0, "insecure_seed": 1},
        "method": {"name": "promptfl", "context_length": 2},
    }
    file_of(2, **sections).write(folder)
    with pytest.raises(ConfigError, match="has no keys"):
        prepare(folder)
    make_keys(folder, ["127.0.0.1"], ["site-0", "site-1"])
    serve(folder, sites_on(images[:2], tmp_path), track="csv")
    for row in csv.DictReader((folder / "run/tracking/csv/rounds.csv").read_text().splitlines()):
        assert row["round"]
        assert row["mean"] == row["train_loss"] == row["up_bytes"] == ""
    assert not list((folder / "run/tracking/csv").glob("*.png"))
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    for line in lines:
        said = json.loads(line)
        said = said.get("record", said)
        assert said["cohort"] == said["traffic"] == []
        assert "accuracy" not in said
    assert RunDirectory(folder / "run").metrics()[-1]["cohort"] == [0, 1]
    assert len(list((folder / "run" / "ledgers").iterdir())) >= 1
    assert json.loads((folder / "run" / "privacy.json").read_text())
    with pytest.raises(SystemExit):
        report.main([str(folder / "run"), "--out", str(tmp_path / "page.html")])
    assert "whose sites send no scores" in capsys.readouterr().err
    longer = file_of(3, FederationFile.read(folder).federation, **sections)
    assert extend(folder / "run", longer.sections)
    longer.write(folder)
    serve(folder, sites_on(images[:2], tmp_path))  # goes on with its ledger
    assert RunDirectory(folder / "run").round == 3


def test_a_run_is_extended_only_by_more_rounds(images, tmp_path):
    folder = tmp_path / "federation"
    file_of(2).write(folder)
    serve(folder, sites_on(images[:1], tmp_path))
    run = folder / "run"
    with pytest.raises(RunError, match="would be fewer"):
        extend(run, file_of(1).sections)
    falling = SECTIONS["training"] | {"schedule": "cosine", "horizon": "run"}
    made = folder / "other"
    file_of(2, training=falling).write(made)
    serve(made, sites_on(images[:1], tmp_path / "other"))
    with pytest.raises(RunError, match=r"step sizes .* over its 2 rounds"):
        extend(made / "run", file_of(3, training=falling).sections)
    other = file_of(3, training={"epochs": 2}).sections
    assert not extend(run, other)
    with pytest.raises(RunError, match=r"training\.epochs was 1, is 2"):
        check_continues(run, other)
    check_continues(run, file_of(3).sections)
    assert RunDirectory(run).config["rounds"]["rounds"] == 3
    assert not extend(tmp_path / "absent", other)


def test_a_site_that_has_left_is_in_no_file_and_is_not_let_in_again(images, tmp_path, capsys):
    folder = tmp_path / "federation"
    method = {**SECTIONS["method"], "experts": 2}
    apart = {**SECTIONS["training"], "learning_rate": 2.0}  # the average is near nobody's prompt
    file_of(2, method=method, training=apart).write(folder)
    grid = sites_on(images, tmp_path / "sites")
    serve(folder, grid)
    server = RunDirectory(folder / "run").load_server()
    last = server["pool.contexts"][server["pool.clients"].tolist().index(1)]
    others = [tmp_path / "sites" / "site-0", tmp_path / "sites" / "site-2"]
    federation = FederationFile.read(folder).federation
    local = SiteState(others[0] / "federations" / federation, 0).load(2)
    held = local["experts"][local["expert_clients"].tolist().index(1)]
    assert traces_of(last, folder)
    assert all(traces_of(held, place) for place in others)
    forget.main([str(folder), "--client", "1"])
    said = " ".join(capsys.readouterr().out.split())
    assert "sites that hold its expert erase it when they are greeted next" in said  # not "0 held"
    assert traces_of(last, folder) == traces_of(held, folder) == []
    left = status_of(folder).sites[1]
    assert left.news == "has left; still to erase its expert: site-0, site-2"
    longer = file_of(3, federation, method=method, training=apart)
    assert extend(folder / "run", longer.sections)
    longer.write(folder)
    again = sites_on(images, tmp_path / "sites")
    serve(folder, again)
    for prompt in (last, held):
        assert [traces_of(prompt, place) for place in (*others, folder)] == [[], [], []]
    assert RunDirectory(folder / "run").metrics()[-1]["cohort"] == [0, 2]
    assert status_of(folder).sites[1].news == "has left"
    erasures = folder / "run" / "erasures"
    assert check_record(erasures / "0001.json")
    assert json.loads((erasures / "0001.json").read_text())["states_changed"] is None
    assert check_record(erasures / "sites-0001.json")
    said = json.loads((erasures / "sites-0001.json").read_text())["sites"]
    assert {site: one["states_changed"] > 0 for site, one in said.items()} == {
        "site-0": True,
        "site-2": True,
    }


def test_an_erasure_that_was_interrupted_is_ended_before_sites_are_let_in(
    images, tmp_path, monkeypatch
):
    folder = tmp_path / "federation"
    file_of(1).write(folder)
    grid = sites_on(images, tmp_path / "sites")
    serve(folder, grid)

    def killed(*_):
        raise KeyboardInterrupt

    words = [str(folder), "--client", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("eval.erasure.rewrite_states", killed)
        with pytest.raises(KeyboardInterrupt):
            forget.main.__wrapped__(words)
    longer = file_of(2, FederationFile.read(folder).federation)
    extend(folder / "run", longer.sections)
    longer.write(folder)
    with pytest.raises(RunError, match="was interrupted"):
        serve(folder, grid)
    forget.main(words)
    serve(folder, grid)
    assert RunDirectory(folder / "run").metrics()[-1]["cohort"] == [0, 2]


@pytest.mark.parametrize(
    "figures",
    [
        {"accuracy": 1e300},
        {"accuracy": -5.0},
        {"ece": 2.0},
        {"test_images": 1e300},
        {"test_images": 0.0},
        {"global_accuracy": 2.0},
    ],
)
def test_figures_that_cannot_be_do_not_end_the_run_and_do_not_count(figures):
    good = {"accuracy": 0.5, "macro_f1": 0.5, "ece": 0.1, "train_images": 3.0, "test_images": 4.0}
    scores = client_scores({ClientId(0): good, ClientId(1): good | figures})
    assert list(scores) == [0]
    assert record(tuple(scores.values()))["evaluation"]["mean"] == 0.5


def test_a_site_that_says_nothing_of_the_global_model_leaves_its_figure_to_the_others():
    figures = {"accuracy": 0.5, "macro_f1": 0.5, "ece": 0.1, "train_images": 3.0}
    said = [figures | {"test_images": 4.0, "global_accuracy": 0.25}, figures | {"test_images": 9.0}]
    scores = client_scores({ClientId(number): one for number, one in enumerate(said)})
    evaluation = record(tuple(scores.values()))["evaluation"]
    assert (evaluation["mean"], evaluation["global_union"]) == (0.5, 0.25)
