"""No damaged, swapped, dropped or renumbered file of a run is taken for the right one."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import save as save_tensors

from pfedmoap.errors import RunError
from pfedmoap.runs import checksums
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.wire.messages import ClientId
from tests.helpers.earlier_runs import write_earlier_run

CLIENTS = (ClientId(1), ClientId(2), ClientId(3))
CONFIG, TASK = {"method": "x"}, {"classes": 2}
ROUND_2 = "round-000002.safetensors"


def state(of: float) -> dict[str, torch.Tensor]:
    return {"context": torch.full((4, 8), of), "gate": torch.arange(6.0)}


def make(path) -> RunDirectory:
    """Two rounds of three clients; the third took part in the first alone."""
    run = RunDirectory.create(path, CONFIG, TASK, resume=False)
    run.resume()
    for round, clients in ((1, CLIENTS), (2, CLIENTS[:2])):
        checkpoint = Checkpoint(
            round, state(-round), {client: state(client) for client in CLIENTS}, {CLIENTS[0]: round}
        )
        line = {"round": round, "cohort": list(clients), "accuracy": 0.5, "train_seconds": 1.0}
        run.save(checkpoint, clients, line)
    return run


def read_all(path) -> None:
    run = RunDirectory(path)
    assert run.load() is not None
    assert (run.config, run.task, len(run.metrics())) == (CONFIG, TASK, 2)


@pytest.fixture
def path(tmp_path):
    make(tmp_path / "run")
    return tmp_path / "run"


def test_every_flipped_bit_is_noticed(path):
    """Of the whole run directory: states, manifest, configuration, task, metrics."""
    RunDirectory(path).finish()
    draw = random.Random(0)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    assert len(files) == 7
    for file in files:
        whole = file.read_bytes()
        for _ in range(40):
            position, bit = draw.randrange(len(whole)), draw.randrange(8)
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            file.write_bytes(flipped)
            before = whole[max(0, position - 20) : position + 20]
            if file.name == "metrics.jsonl" and b"train_seconds" in before:
                continue  # the times are of the wall clock, and nothing is decided by them
            with pytest.raises(RunError, match="damaged"):
                read_all(path)
        file.write_bytes(whole)
    read_all(path)


SHARD_1, SHARD_2 = (f"clients/shard-00000{round}.safetensors" for round in (1, 2))


@pytest.mark.parametrize("length", [0, 7, 100, -1])
@pytest.mark.parametrize("file", [f"server/{ROUND_2}", SHARD_1, SHARD_2])
def test_truncated_state_is_named(path, file, length):
    (path / file).write_bytes((path / file).read_bytes()[:length])
    with pytest.raises(RunError, match=rf"{file} is damaged"):
        RunDirectory(path).load()


def test_damage_to_one_client_leaves_the_others_readable(path):
    content = bytearray((path / SHARD_1).read_bytes())
    position = bytes(content).index(state(1)["context"].numpy().tobytes())
    content[position + 1] ^= 1
    (path / SHARD_1).write_bytes(content)
    for read in (RunDirectory(path).load, lambda: RunDirectory(path).load_client(CLIENTS[0])):
        with pytest.raises(RunError, match=r"shard-000001.* is damaged: bytes .* another checksum"):
            read()
    for client in CLIENTS[1:]:
        found = RunDirectory(path).load_client(client)
        assert torch.equal(found["context"], state(client)["context"])


def test_swapped_shards_are_refused(path):
    one, two = path / SHARD_1, path / SHARD_2
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(RunError, match="its checksum is not the one in the run's manifest"):
        RunDirectory(path).load()


def test_state_of_another_run_or_round_is_refused(path, tmp_path):
    other = RunDirectory.create(tmp_path / "other", CONFIG, TASK, resume=False)
    other.save(Checkpoint(2, state(0), {CLIENTS[0]: state(9)}), (CLIENTS[0],), {"round": 2})
    shutil.copy(tmp_path / "other" / SHARD_2, path / SHARD_2)
    with pytest.raises(RunError, match="its checksum is not the one"):
        RunDirectory(path).load()


def test_a_dropped_shard_is_missed(path):
    (path / SHARD_1).unlink()
    for read in (RunDirectory(path).load, lambda: RunDirectory(path).load_client(CLIENTS[2])):
        with pytest.raises(RunError, match=r"shard-000001.* it is missing"):
            read()


@pytest.mark.parametrize("change", ["drop", "rename", "uncount"])
def test_a_manifest_that_was_edited_is_refused(path, change):
    record = json.loads((path / "checkpoint.json").read_text())
    if change == "drop":
        record["shards"].remove(SHARD_1)
    elif change == "rename":
        record["shards"] = [file.replace("1.", "0.") for file in record["shards"]]
    else:
        record["charges"]["1"] -= 1
    (path / "checkpoint.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="its own checksum does not fit"):
        RunDirectory(path).load()


WRONG = {
    "names": {"prompt": torch.zeros(4, 8)},
    "shapes": {"context": torch.zeros(3, 8), "gate": torch.arange(6.0)},
    "dtypes": {"context": torch.zeros(4, 8).half(), "gate": torch.arange(6.0)},
    "nan": {"context": torch.full((4, 8), torch.nan), "gate": torch.arange(6.0)},
}


@pytest.mark.parametrize("arrays", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("file", [f"server/{ROUND_2}", SHARD_1])
def test_valid_files_with_other_content_are_damaged(path, file, arrays):
    (path / file).write_bytes(save_tensors(arrays))
    with pytest.raises(RunError, match="is damaged"):
        RunDirectory(path).load()


def test_runs_of_earlier_versions_are_read_with_one_warning_and_then_sealed(path, caplog):
    clients = {1: (2, state(1)), 2: (2, state(2)), 3: (1, state(3))}
    write_earlier_run(path, 2, state(-2), clients, sealed=False)
    checksums.warned.clear()
    read_all(path)
    read_all(path)
    assert [r.message for r in caplog.records if "without checksums" in r.message] == [
        f"{path} was written by a version without checksums: damage to its files is not noticed. "
        "Continuing it with --resume adds them"
    ]
    (path / f"clients/0001/{ROUND_2}").write_bytes(save_tensors(WRONG["nan"]))
    with pytest.raises(RunError, match="context holds values that are not finite"):
        RunDirectory(path).load()
    (path / f"clients/0001/{ROUND_2}").write_bytes(save_tensors(state(1)))
    assert RunDirectory(path).resume() is not None
    read_all(path)
    file = path / "clients/shard-000002-0000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="another checksum"):
        RunDirectory(path).load()


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 10**5, '"' + "x" * 100])
@pytest.mark.parametrize("name", ["checkpoint.json", "config.json", "task.json"])
def test_json_of_another_kind_is_one_clear_error(path, name, text):
    (path / name).write_text(text)
    with pytest.raises(RunError, match="damaged"):
        read_all(path)


@pytest.mark.parametrize("name", ["config.json", "task.json", "private/task.json"])
def test_a_file_that_is_gone_is_said_to_be_gone(tmp_path, name):
    """The folder is a run without any doubt; asking whether it is one would mislead."""
    run = RunDirectory.create(tmp_path, CONFIG, {"clients": [3]}, resume=False, divided=True)
    run.save(Checkpoint(1, state(0), {CLIENTS[0]: state(1)}), (CLIENTS[0],), {"round": 1})
    (tmp_path / name).unlink()
    for read in (
        lambda: (RunDirectory(tmp_path).config, RunDirectory(tmp_path).task),
        lambda: RunDirectory.create(tmp_path, CONFIG, {}, resume=True, divided=True),
    ):
        with pytest.raises(RunError, match=r"json is damaged.*it is missing"):
            read()


def test_a_table_that_was_changed_is_not_reported(path):
    (path / "per_client.csv").write_text("client,accuracy\n1,0.5\n")
    RunDirectory(path).finish("per_client.csv")
    assert not (path / "checkpoint-previous.json").exists()
    assert RunDirectory(path).whole("per_client.csv").exists()
    (path / "per_client.csv").write_text("client,accuracy\n1,0.9\n")
    with pytest.raises(RunError, match=r"per_client\.csv is damaged"):
        RunDirectory(path).whole("per_client.csv")


def test_what_only_the_owner_may_know_has_no_checksum_in_the_public_manifest(tmp_path):
    run = RunDirectory.create(tmp_path, CONFIG, {"clients": [3]}, resume=False, divided=True)
    line = {"round": 1, "epsilon": {}, "accuracy": 0.5}
    run.save(Checkpoint(1, state(0), {CLIENTS[0]: state(1)}), (CLIENTS[0],), line)
    shown = json.loads((tmp_path / "checkpoint.json").read_text())
    assert set(shown["sha256"]) == {
        "config.json",
        "task.json",
        "server/round-000001.safetensors",
    }
    assert set(shown["lines"]) == {"metrics.jsonl"}
    assert RunDirectory(tmp_path).metrics() == [line]
    private = (tmp_path / "private/metrics.jsonl").read_text()
    (tmp_path / "private/metrics.jsonl").write_text(private.replace("0.5", "0.7"))
    with pytest.raises(RunError, match=r"line 1 of .*private"):
        RunDirectory(tmp_path).metrics()
