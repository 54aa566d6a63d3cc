"""A private run's folder: what anybody may be given holds nothing that no noise covers."""

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from eval.commands import compare, evaluate, predict, report, train
from pfedmoap import PersonalizedClassifier
from pfedmoap.data.digits import Digits
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.layout import PRIVATE
from pfedmoap.runs.manifest import read_manifest, write_manifest
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger import LOCK
from tests.helpers.runs import without_checksums

SMALL = (
    "--partition",
    "dirichlet",
    "--partition.clients",
    "3",
    "--partition.alpha",
    "0.5",
    "--sampling.shots",
    "4",
    "--training.epochs",
    "1",
    "--quiet",
    "true",
    "--rounds.rounds",
    "2",
    "--rounds.evaluate_every",
    "2",
    "--backbone.device",
    "cpu",
)
FAMILIES = {
    "pfedmoap": ("dpsgd", ("--method.context_length", "2", "--method.experts", "1")),
    "pfedmoap, release": ("release", ("--method.context_length", "2", "--method.experts", "1")),
    "promptfl": ("dpsgd", ("--method.context_length", "2")),
    "promptfl_ft": ("dpsgd", ("--method.context_length", "2", "--method.fine_tune_epochs", "1")),
    "fedpgp": ("dpsgd", ("--method.context_length", "2", "--method.rank", "1")),
    "local_coop": ("dpsgd", ("--method.context_length", "2")),
    "fedavg_pt": ("release", ("--method.modality", "text")),
    "fed_bbpt": ("release", ("--method.variant", "text", "--method.draws", "1")),
    "promptfl, central": ("central", ("--method.context_length", "2")),
    "fedsp": (
        "release",
        ("--sampling.server_shots", "2", "--method.distillation_steps", "1"),
    ),
}
PUBLIC_KEYS = {
    "task.json": {"data", "class_names", "templates", "domains", "backbone", "private_part"},
    "metrics.jsonl": {
        "round",
        "cohort",
        "sat_out",
        "epsilon",
        "rejected",
        "served",
        "traffic",
        "privacy",
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def make(name: str, cache: str, out: Path) -> Path:
    mode, options = FAMILIES[name]
    method = ("--method", name.split(",")[0], *options)
    train.main([*SMALL, *method, "--privacy", mode, "--features.cache", cache, "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory) -> Path:
    return make("pfedmoap, release", cache, tmp_path_factory.mktemp("runs") / "run")


def public_files(run: Path) -> list[Path]:
    return [
        file
        for file in run.rglob("*")
        if file.is_file() and PRIVATE not in file.relative_to(run).parts
    ]


def leaves(value) -> list:
    """All lists of numbers, and all numbers, inside JSON."""
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    if isinstance(value, list):
        return [value, *(leaf for one in value for leaf in leaves(one))]
    return [value]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_nothing_private_is_in_a_public_file(name, cache, tmp_path):
    run = make(name, cache, tmp_path / "run")
    directory = RunDirectory(run)
    last, task = directory.metrics()[-1], directory.task
    histograms = [client[part] for client in task["clients"] for part in ("train", "test")]
    figures = [
        *last["accuracy"].values(),
        *last["evaluation"].values(),
        *last["train_loss"].values(),
        last["train_seconds"],
    ]
    telling = {repr(figure) for figure in figures if len(repr(figure)) > 6}  # 0.5 may be anything
    assert telling
    own = (run / PRIVATE / "metrics.jsonl").read_text()
    assert all(figure in own for figure in telling)
    states = [
        array.numpy().tobytes()
        for local in directory.local_states.values()
        for key, array in local.items()
        if array.numel() > 4 and (key.startswith("gate") or FAMILIES[name][0] == "release")
    ]
    if name == "pfedmoap":
        assert states
    public = public_files(run)
    names = {str(file.relative_to(run)) for file in public}
    assert {"config.json", "task.json", "metrics.jsonl", "privacy.json"} <= names
    assert not [one for one in names if one.startswith(("clients", "per_client", "report"))]
    for file in public:
        if file.suffix == ".safetensors":
            content = file.read_bytes()
            assert not [state for state in states if state in content], file
            continue
        text = file.read_text()
        if file.name == LOCK:
            assert text == ""
            continue
        assert not [figure for figure in telling if figure in text], file
        for line in text.splitlines() if file.suffix == ".jsonl" else [text]:
            record = json.loads(line)
            assert not [leaf for leaf in leaves(record) if leaf in histograms], file
            if file.name in PUBLIC_KEYS:
                assert set(record) <= PUBLIC_KEYS[file.name]


def test_a_secret_cohort_is_in_no_public_file(cache, tmp_path):
    run = make("promptfl, central", cache, tmp_path / "run")
    assert RunDirectory(run).load() is not None
    shown = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(record["cohort"] == [] and record["traffic"] == [] for record in shown)
    manifest = json.loads((run / "checkpoint.json").read_text())
    assert manifest["shards"] == []
    assert "charges" not in manifest
    assert json.loads((run / PRIVATE / "checkpoint.json").read_text())["round"] == 2


@pytest.mark.parametrize("mode", ["dpsgd", "release", "central", "none"])
def test_clients_without_images_stop_no_private_run(mode, cache, tmp_path, capsys):
    options = (
        *SMALL[SMALL.index("--training.epochs") :],
        "--sampling.shots",
        "1",  # ten images
        "--partition",
        "iid",
        "--partition.clients",
        "12",
        "--method",
        "promptfl",
        "--method.context_length",
        "2",
        "--privacy",
        mode,
        "--features.cache",
        cache,
    )
    if mode == "none":
        with pytest.raises(SystemExit):
            train.main([*options, "--out", str(tmp_path / "run")])
        assert "2 of 12 clients get no train image" in capsys.readouterr().err
        return
    train.main([*options, "--out", str(tmp_path / "run")])
    run = RunDirectory(tmp_path / "run")
    counts = [sum(client["train"]) for client in run.task["clients"]]
    assert sorted(counts) == [0, 0] + [1] * 10
    if mode != "central":  # where the cohort is drawn in secret
        assert all(record["cohort"] == list(range(12)) for record in run.metrics())
    assert not any(record["rejected"] for record in run.metrics())


def test_the_private_part_is_closed_to_others(run):
    folders = [run / PRIVATE, *(f for f in (run / PRIVATE).rglob("*") if f.is_dir())]
    assert len(folders) == 2
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    files = [file for file in (run / PRIVATE).rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"task.json", "metrics.jsonl", "per_client.csv"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_other_commands_read_both_parts(run, tmp_path, capsys):
    evaluate.main([str(run), "--csv", str(tmp_path / "again.csv")])
    written = (run / PRIVATE / "per_client.csv").read_text()
    assert (tmp_path / "again.csv").read_text() == written
    assert stat.S_IMODE((tmp_path / "again.csv").stat().st_mode) == 0o600
    digit = tmp_path / "digit.png"
    Digits().read().load(0).save(digit)
    predict.main([str(run), str(digit), "--client", "1"])
    assert "the digit" in " ".join(capsys.readouterr().out.split())
    local = RunDirectory(run).load_client(ClientId(1))
    assert local is not None
    assert "context" in local


def test_a_report_says_that_it_is_private_and_stays_in_the_private_part(run, capsys):
    report.main([str(run)])
    page = run / PRIVATE / "report.html"
    assert "report.html (private" in capsys.readouterr().out
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert page.read_text().index("This page is private") < page.read_text().index("<h1>")
    assert not (run / "report.html").exists()
    page.unlink()


def test_the_public_part_alone_says_what_is_missing(run, tmp_path, capsys):
    given = tmp_path / "given"
    shutil.copytree(run, given, ignore=shutil.ignore_patterns(PRIVATE))
    assert [record["round"] for record in RunDirectory(given).metrics()] == [1, 2]
    assert RunDirectory(given).load_server()
    with pytest.raises(RunError, match="is the public part of a private run"):
        PersonalizedClassifier.load(given, client=0)
    with pytest.raises(SystemExit):
        evaluate.main([str(given)])
    assert "public part of a private run" in capsys.readouterr().err


def test_a_private_run_resumes_to_the_same_end(cache, tmp_path):
    seeded = ("--privacy", "release", "--privacy.insecure_seed", "3")
    options = (*SMALL, "--method", "promptfl", *seeded, "--features.cache", cache)
    train.main([*options, "--out", str(tmp_path / "whole")])
    part = tmp_path / "part"
    train.main([*options, "--out", str(part)])
    manifest = json.loads((part / "checkpoint.json").read_text())
    before = [record.get("accuracy") for record in RunDirectory(part).metrics()]
    train.main([*options, "--out", str(part), "--resume", "true"])
    assert json.loads((part / "checkpoint.json").read_text()) == manifest
    assert [record.get("accuracy") for record in RunDirectory(part).metrics()] == before
    whole = RunDirectory(tmp_path / "whole").metrics()
    assert [record.get("accuracy") for record in whole] == before


def test_a_private_run_of_the_old_layout_is_not_resumed(run, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    directory = RunDirectory(old)
    task = directory.task
    without_checksums(old)  # such versions wrote none
    (old / "task.json").write_text(json.dumps(task))
    with pytest.raises(RunError, match="kept clients' results beside what may be shared"):
        RunDirectory.create(old, directory.config, task, resume=True, divided=True)


def test_a_link_in_place_of_the_private_part_is_refused(run, tmp_path):
    linked, elsewhere = tmp_path / "linked", tmp_path / "elsewhere"
    shutil.copytree(run, linked)
    shutil.move(linked / PRIVATE, elsewhere)
    (linked / PRIVATE).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises(RunError, match="symbolic link"):
        RunDirectory(linked).resume()
    assert sorted(elsewhere.rglob("*")) == before


def test_state_of_a_round_that_was_not_completed_is_swept_in_the_private_part(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    kept = sorted((copy / PRIVATE / "clients").rglob("*.safetensors"))
    shutil.copy(kept[0], kept[0].with_name("shard-000009.safetensors"))
    with (copy / PRIVATE / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "accuracy": {}}\n')
    RunDirectory(copy).resume()
    assert sorted((copy / PRIVATE / "clients").rglob("*.safetensors")) == kept
    assert len((copy / PRIVATE / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_kill_between_the_two_manifests_is_mended(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shown = json.loads((copy / "checkpoint.json").read_text())
    assert shown["shards"] == []
    whole = read_manifest(copy)
    assert whole is not None
    earlier = replace(whole, round=1, server="server/round-000001.safetensors")
    write_manifest(copy, replace(earlier, rows=(), owners=None))
    saved = RunDirectory(copy).resume()
    assert saved is not None
    assert (saved.round, len(saved.local_states)) == (2, 3)
    assert json.loads((copy / "checkpoint.json").read_text()) == shown
    (copy / PRIVATE / "checkpoint.json").unlink()
    with pytest.raises(RunError, match="nobody knows which state is whole"):
        RunDirectory(copy).resume()


def test_a_comparison_with_a_private_cell_keeps_its_tables_in_a_private_part(
    cache, tmp_path, capsys
):
    plan = {
        "base": {
            "sampling": {"shots": 4},
            "partition": {"name": "iid", "clients": 2},
            "training": {"epochs": 1},
            "rounds": {"rounds": 1},
            "features": {"cache": cache},
            "backbone": {"device": "cpu"},
        },
        "tasks": {"digits": {"data": "digits"}},
        "methods": {
            "plain": {"method": {"name": "promptfl", "context_length": 2}},
            "private": {
                "method": {"name": "promptfl", "context_length": 2},
                "privacy": {"name": "release"},
            },
        },
        "seeds": [0],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    out = tmp_path / "out"
    compare.main([str(tmp_path / "plan.yaml"), "--out", str(out), "--quiet", "true"])
    assert "private" in capsys.readouterr().out
    assert {file.name for file in (out / PRIVATE).iterdir()} >= {"table.csv", "curves.csv"}
    assert not list(out.glob("*.csv"))
    assert not list(out.glob("*.md"))
    again = ["--out", str(out), "--quiet", "true", "--resume", "true"]
    compare.main([str(tmp_path / "plan.yaml"), *again])
    report.main([str(out)])
    assert "This page is private" in (out / PRIVATE / "report.html").read_text()
