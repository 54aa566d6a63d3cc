"""Repair saves the last whole round and all whole lines, deletes nothing, and guesses nothing."""

import json

import pytest
import torch

from pfedmoap.errors import RunError
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.runs.repair import repair
from pfedmoap.wire.messages import ClientId

ONE, TWO = ClientId(1), ClientId(2)
CONFIG, TASK = {"method": "x"}, {"classes": 2}


def save(run: RunDirectory, round: int) -> None:
    state = {"context": torch.full((3,), float(round))}
    checkpoint = Checkpoint(round, state, {ONE: state, TWO: state})
    run.save(checkpoint, (ONE, TWO), {"round": round, "accuracy": round / 10})


@pytest.fixture(params=[False, True], ids=["plain", "private"])
def run(tmp_path, request) -> RunDirectory:
    """Three rounds; the run is not finished, so that the round before the last is there."""
    run = RunDirectory.create(tmp_path, CONFIG, TASK, resume=False, divided=request.param)
    run.resume()
    for round in (1, 2, 3):
        save(run, round)
    return run


def flip(file, at=-3) -> bytes:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    return bytes(content)


def test_a_whole_run_stays_as_it_is(run):
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    assert repair(run.path).found == []
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_bad_lines_go_aside_and_the_state_stays(run):
    part = run.layout.part
    lines = (part / "metrics.jsonl").read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"0.2", b"0.9")
    (part / "metrics.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(RunError, match="pfedmoap repair RUN"):
        run.resume()
    done = repair(run.path)
    assert (done.round, len(done.found), len(done.lost_lines)) == (3, 1, 1)
    assert (part / "damaged/metrics.jsonl").read_bytes() == b"\n".join(lines)
    saved = RunDirectory(run.path).resume()
    assert saved is not None
    assert saved.round == 3
    assert [r.get("accuracy") for r in run.metrics() if "accuracy" in r] == [0.1, 0.3]
    save(run, 4)
    assert run.metrics()[-1]["accuracy"] == 0.4


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_damaged_state_falls_back_to_the_round_before(run, damage):
    file = run.layout.where("clients/shard-000003.safetensors")
    bad = flip(file) if damage == "flip" else file.unlink()
    done = repair(run.path)
    assert done.round == 2
    saved = RunDirectory(run.path).resume()
    assert saved is not None
    assert saved.local_states[TWO]["context"].tolist() == [2.0] * 3
    assert [record["round"] for record in run.metrics()] == [1, 2]
    kept = run.layout.part / "damaged/shard-000003.safetensors"
    assert kept.read_bytes() == bad if damage == "flip" else not kept.exists()
    save(run, 3)
    assert RunDirectory(run.path).round == 3


@pytest.mark.parametrize("text", ["{}", "[]", "[" * 10**5, ""])
def test_a_damaged_manifest_falls_back_to_the_one_before(run, text):
    (run.layout.part / "checkpoint.json").write_text(text)
    assert repair(run.path).round == 2
    assert RunDirectory(run.path).resume() is not None
    assert (run.layout.part / "damaged/checkpoint.json").read_text() == text


def test_where_no_round_is_whole_nothing_is_touched(run):
    for round in (2, 3):
        flip(run.path / f"server/round-00000{round}.safetensors")
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match=r"nothing of .* can be saved, and nothing was changed"):
        repair(run.path)
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_options_cannot_be_made_again(run):
    (run.path / "config.json").write_text(json.dumps({"method": "y"}))
    with pytest.raises(RunError, match=r"config\.json is missing or damaged, and cannot be made"):
        repair(run.path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run"):
        repair(tmp_path)
