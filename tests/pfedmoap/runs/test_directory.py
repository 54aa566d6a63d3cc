"""A run deletes and overwrites nothing that is not its own, and starts only where it may."""

import json
import os

import pytest
import torch

from pfedmoap.errors import RunError
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.storage import own_files
from pfedmoap.wire.messages import ClientId
from tests.helpers.earlier_runs import write_earlier_run

ONE = ClientId(1)
STATE = {"context": torch.ones(2)}


def start(path, *, resume=False, config=None) -> RunDirectory:
    run = RunDirectory.create(path, config or {"method": "x"}, {"classes": 2}, resume=resume)
    run.resume()
    return run


def save(run, round=1, charges=None):
    checkpoint = Checkpoint(round, STATE, {ONE: STATE}, charges or {})
    run.save(checkpoint, (ONE,), {"round": round, "cohort": [1]})


def tree(path) -> dict[str, object]:
    """Every file's content and every link's target below a folder."""
    return {
        str(file.relative_to(path)): os.readlink(file) if file.is_symlink() else file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_symlink() or file.is_file()
    }


def write(path, text="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def project(tmp_path):
    write(tmp_path / "server/app.py")
    write(tmp_path / "clients/android/Main.kt")
    return tmp_path


FOREIGN = {
    "a project": {"server/app.py": "mine", "clients/android/Main.kt": "mine"},
    "another program's configuration": {"config.json": "{}"},
    "another program's files of all our names": dict.fromkeys(
        ("config.json", "task.json", "metrics.jsonl", "privacy.json"), "{}\n"
    ),
    "another program's checkpoint": {"checkpoint.json": '{"step": 4}'},
    "a checkpoint of a list": {"checkpoint.json": "[]"},
    "a folder named like state": {"server/round-000001.safetensors/notes.txt": "mine"},
    "one hidden file": {".gitignore": "*"},
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_folder_is_refused_and_left_as_it_is(tmp_path, files, resume):
    for name, content in files.items():
        write(tmp_path / name, content)
    before = tree(tmp_path)
    with pytest.raises(RunError):
        start(tmp_path, resume=resume)
    assert tree(tmp_path) == before


def test_resuming_without_a_manifest_deletes_nothing_of_a_project(project):
    before = tree(project)
    assert RunDirectory(project).resume() is None
    assert tree(project) == before


def test_what_a_user_adds_to_a_run_stays(tmp_path):
    run = start(tmp_path)
    save(run)
    added = [
        "server/notes.md",
        "server/round-1.safetensors",
        "server/old/round-000001.safetensors",
        "clients/android/round-000009.safetensors",
        "clients/0001/photo.jpg",
        "clients/shard-1.safetensors",
        "clients/0001/shard-000007.safetensors",
        "clients/0001/sub/round-000007.safetensors",
        "clients/round-000007.safetensors",
        ".config.json.swp",
        ".notes.md.abcdefgh.pfedmoap",
        "server/.round-000007.safetensors.abcdefgh",
    ]
    for name in added:
        write(tmp_path / name)
    before = tree(tmp_path)
    save(start(tmp_path, resume=True), 2)
    after = tree(tmp_path)
    assert {name: after.get(name) for name in added} == {name: before[name] for name in added}


def test_only_what_a_killed_round_left_is_swept(tmp_path):
    save(start(tmp_path))
    before = tree(tmp_path)
    left = [
        "server/round-000002.safetensors",
        "server/.round-000002.safetensors.k3_x9a0b.pfedmoap",
        "clients/shard-000002.safetensors",
        "clients/shard-000001-0000.safetensors",
        "clients/.shard-000002.safetensors.k3_x9a0b.pfedmoap",
        "clients/0001/round-000002.safetensors",
        "clients/0004/.round-000002.safetensors.k3_x9a0b.pfedmoap",
        ".metrics.jsonl.k3_x9a0b.pfedmoap",
        ".checkpoint.json.k3_x9a0b.pfedmoap",
    ]
    for name in left:
        write(tmp_path / name)
    start(tmp_path, resume=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("by_handle", [True, False])
@pytest.mark.parametrize(
    "name",
    ["server", "clients", "ledgers", "private", "clients/0001", "clients/0007", "metrics.jsonl"],
)
def test_nothing_happens_through_a_link(tmp_path, monkeypatch, name, by_handle):
    monkeypatch.setattr(own_files, "BY_HANDLE", by_handle and own_files.BY_HANDLE)
    home, run = tmp_path / "home", tmp_path / "run"
    for file in ("0001/round-000009.safetensors", "round-000009.safetensors", "thesis.tex"):
        write(home / file)
    save(start(run))
    place = run / name
    if place.exists():
        place.rename(tmp_path / "aside")
    place.symlink_to(home)
    before = tree(tmp_path)
    with pytest.raises(RunError, match="is a symbolic link"):
        start(run, resume=True)
    with pytest.raises(RunError, match="is a symbolic link"):
        RunDirectory(run).resume()
    assert tree(tmp_path) == before
    own_files.remove_files(run, tuple(name.split("/")), lambda _: True)
    assert tree(tmp_path) == before


def test_a_link_to_the_run_itself_is_the_users_choice(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    save(start(tmp_path / "run"))
    assert RunDirectory(tmp_path / "disk").round == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_lost_manifest_is_an_error_that_says_what_is_there(tmp_path, resume):
    save(start(tmp_path))
    (tmp_path / "checkpoint.json").unlink()
    before = tree(tmp_path)
    for attempt in (lambda: start(tmp_path, resume=resume), RunDirectory(tmp_path).resume):
        with pytest.raises(RunError, match=r"missing, but there are 2 state files and 1 lines"):
            attempt()
    with pytest.raises(RunError, match="nobody knows which state is whole"):
        RunDirectory(tmp_path).load()
    assert tree(tmp_path) == before


def test_a_lost_configuration_is_not_written_anew(tmp_path):
    save(start(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(RunError, match=r"config\.json is damaged: it is missing"):
        start(tmp_path, resume=True, config={"method": "another"})


def test_a_run_without_a_complete_round_may_be_replaced(tmp_path):
    start(tmp_path)
    write(tmp_path / "server/round-000001.safetensors")  # of a killed first round
    write(tmp_path / "metrics.jsonl", '{"round": 1}\n')
    run = start(tmp_path, config={"method": "another"})
    assert run.config == {"method": "another"}
    assert not list((tmp_path / "server").iterdir())
    assert run.metrics() == []
    save(run)
    with pytest.raises(RunError, match="holds a run already"):
        start(tmp_path, config={"method": "another"})


def test_a_folder_with_only_the_temporary_file_of_a_killed_start_is_as_good_as_empty(tmp_path):
    write(tmp_path / ".checkpoint.json.k3_x9a0b.pfedmoap")
    start(tmp_path)
    assert sorted(tree(tmp_path)) == ["checkpoint.json", "config.json", "task.json"]


MANIFEST = {
    "round": 1,
    "server": "server/round-000001.safetensors",
    "clients": {"1": "clients/0001/round-000001.safetensors"},
}
WRONG = [
    {"round": 1.0},
    {"round": True},
    {"round": -1},
    {"round": 10**400},
    {"round": 0},
    {"server": None},
    {"server": "../server/round-000001.safetensors"},
    {"server": "server/round-000002.safetensors"},
    {"clients": []},
    {"clients": {"1": "clients/0002/round-000001.safetensors"}},
    {"clients": {"1": "clients/0001/round-000002.safetensors"}},
    {"clients": {"01": "clients/0001/round-000001.safetensors"}},
    {"shards": {}},
    {"shards": [3]},
    {"shards": ["clients/shard-000001.safetensors"]},
    {"shards": ["../clients/shard-000001.safetensors"]},
    {"charges": {"1": 2.9}},
    {"charges": {"1": -1}},
    {"charges": {"x": 1}},
    {"more": 1},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_manifest_with_a_wrong_value_is_refused(tmp_path, change):
    save(start(tmp_path))
    write(tmp_path / "checkpoint.json", json.dumps({**MANIFEST, **change}))
    with pytest.raises(RunError, match="damaged, or is not the manifest"):
        RunDirectory(tmp_path).resume()


@pytest.mark.parametrize("text", ["{", "[" * 10**5, '{"round": 1e400}', '{"round": 1, "round": 0}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    save(start(tmp_path))
    write(tmp_path / "checkpoint.json", text)
    with pytest.raises(RunError, match="damaged, or is not the manifest"):
        RunDirectory(tmp_path).resume()


def test_charges_are_kept_with_the_round(tmp_path):
    save(start(tmp_path), 1, {ONE: 3})
    assert start(tmp_path, resume=True).load().charges == {ONE: 3}


def test_runs_of_earlier_versions_are_read_and_their_rounds_counted(tmp_path):
    run = start(tmp_path)
    save(run)
    save(run, 2)
    write_earlier_run(tmp_path, 2, STATE, {1: (2, STATE)}, sealed=False)
    run = start(tmp_path, resume=True)
    assert run.load().charges == {}
    assert run.participation() == {ONE: 2}


def test_a_damaged_line_of_metrics_is_named(tmp_path):
    run = start(tmp_path)
    save(run)
    save(run, 2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    write(tmp_path / "metrics.jsonl", f"{lines[0]}\n{{\n")
    for attempt in (RunDirectory(tmp_path).metrics, RunDirectory(tmp_path).resume):
        with pytest.raises(RunError, match=r"line 2 of .* is damaged"):
            attempt()


def test_what_a_killed_round_left_of_its_line_stops_nobody(tmp_path):
    save(start(tmp_path))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    for left in (b"{\n", b'{"round": 2}\n', b"\xff\n{}\n", b'{"rou'):
        (tmp_path / "metrics.jsonl").write_bytes(whole + left)
        start(tmp_path, resume=True)
        assert (tmp_path / "metrics.jsonl").read_bytes() == whole
