"""After an erasure, no file of a run holds the prompt, and a signed record says what stays."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from eval.commands import forget, train
from eval.erasure import erase
from eval.erasure_record import check_record, erased_clients, read_record
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.extension import extend
from pfedmoap.storage.signing import Signer, is_signed
from pfedmoap.wire.messages import ClientId
from tests.helpers.traces import traces_of

SMALL = [
    *("--partition", "dirichlet", "--partition.clients", "4", "--sampling.shots", "6"),
    *("--method.context_length", "4", "--method.experts", "2", "--training.epochs", "1"),
    *("--training.learning_rate", "0.1", "--rounds.evaluate_every", "4", "--quiet", "true"),
    *("--backbone.device", "cpu"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def train_to(run, cache, rounds, *words):
    options = ["--features.cache", cache, "--out", str(run), "--rounds.rounds", str(rounds)]
    train.main([*SMALL, *options, *words])


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    train_to(run, cache, 3)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def prompt_of(run, client):
    server = RunDirectory(run).load_server()
    return server["pool.contexts"][server["pool.clients"].tolist().index(client)]


def test_no_file_holds_the_prompt_and_others_hold_what_they_held(run):
    prompt, other = prompt_of(run, 1), prompt_of(run, 2)
    before = {client: RunDirectory(run).load_client(ClientId(client)) for client in (0, 2, 3)}
    assert len(traces_of(prompt, run)) >= 2, "the pool and clients hold it"
    forget.main([str(run), "--client", "1"])
    assert traces_of(prompt, run) == []
    assert traces_of(other, run), "the search finds what is there"
    after = RunDirectory(run).load()
    assert list(after.local_states) == [0, 2, 3]
    assert 1 not in after.server["pool.clients"].tolist()
    for client, local in before.items():
        found = after.local_states[ClientId(client)]
        assert 1 not in found["expert_clients"].tolist()
        assert torch.equal(found["context"], local["context"])
        stays = local["expert_clients"] != 1
        assert torch.equal(found["experts"], local["experts"][stays])


def test_the_record_says_what_stays_and_is_signed(run, tmp_path):
    done = erase(run, ClientId(1), tmp_path / "key")
    assert (done.rounds, done.round, done.server_changed) == (3, 3, True)
    assert 0 < done.share_of_last_average < 1
    assert done.cosine_with_average is not None
    assert "took part in 3 rounds" in done.stays
    file = run / "erasures" / "0001.json"
    assert check_record(file)
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"rounds": 0}))
    assert not check_record(file)
    with pytest.raises(RunError, match="signature is another"):
        read_record(RunDirectory(run).layout, ClientId(1))
    assert record["key"] == Signer.kept_in(tmp_path / "key").public
    assert not is_signed(b"", "00", "zz")


def test_who_was_erased_trains_no_more(run, cache, tmp_path):
    prompt = prompt_of(run, 1)
    erase(run, ClientId(1), tmp_path / "key")
    train_to(run, cache, 4, "--resume", "true")
    records = RunDirectory(run).metrics()
    assert [record["cohort"] for record in records] == [[0, 1, 2, 3]] * 3 + [[0, 2, 3]]
    assert erased_clients(run) == {1}
    assert traces_of(prompt, run) == []
    assert "1" in records[-1]["accuracy"], "tested as one that never took part"


def test_erasing_again_or_somebody_unknown(run, tmp_path):
    done = erase(run, ClientId(1), tmp_path / "key")
    assert done.states_changed == 3
    assert erase(run, ClientId(1), tmp_path / "key") == done
    with pytest.raises(RunError, match="never took part"):
        erase(run, ClientId(9), tmp_path / "key")


def test_a_run_that_was_extended_is_the_run_of_so_many_rounds(run, cache, tmp_path):
    train_to(run, cache, 4, "--resume", "true")
    whole = tmp_path / "whole"
    train_to(whole, cache, 4)
    names = [file.relative_to(whole) for file in whole.rglob("*.safetensors")]
    assert names
    assert all((run / name).read_bytes() == (whole / name).read_bytes() for name in names)
    assert (run / "per_client.csv").read_bytes() == (whole / "per_client.csv").read_bytes()


def test_a_run_on_other_data_is_not_extended_and_stays_as_it_is(run):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    task, config = RunDirectory(run).task | {"class_names": ["x"]}, RunDirectory(run).config
    with pytest.raises(RunError, match="other data"):
        extend(run, config | {"rounds": config["rounds"] | {"rounds": 4}}, task)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_kill_in_the_middle_is_known_and_the_erasure_ends_when_repeated(
    run, cache, tmp_path, monkeypatch
):
    prompt = prompt_of(run, 1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pfedmoap.runs.rewrite.write_state", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(run, ClientId(1), tmp_path / "key")
    assert RunDirectory(run).load() is not None
    layout = RunDirectory(run).layout
    begun = read_record(layout, ClientId(1))
    assert not begun.complete
    with pytest.raises(RunError, match=r"interrupted: end it with `pfedmoap forget .* --client 1`"):
        erased_clients(run)
    with pytest.raises(SystemExit):
        train_to(run, cache, 4, "--resume", "true")
    done = erase(run, ClientId(1), tmp_path / "key")
    assert traces_of(prompt, run) == []
    assert done == replace(begun, complete=True), "of before anything was taken out"
    assert (done.states_changed, done.server_changed) == (3, True)
    assert read_record(layout, ClientId(1)) == done
    assert erased_clients(run) == {1}


def test_what_a_repair_has_kept_of_a_damaged_run_goes_too(run, tmp_path):
    prompt = prompt_of(run, 1)
    kept = run / "damaged" / "shard-000002.safetensors.1"
    kept.parent.mkdir()
    shutil.copy(sorted((run / "server").glob("shard-*"))[-1], kept)
    assert "damaged/shard-000002.safetensors.1" in traces_of(prompt, run)
    (run / "damaged" / "metrics.jsonl").write_text("{}")
    erase(run, ClientId(1), tmp_path / "key")
    assert traces_of(prompt, run) == []
    assert (run / "damaged" / "metrics.jsonl").exists()


def test_the_record_of_a_private_run_is_private_and_tells_no_size(cache, tmp_path):
    run = tmp_path / "private-run"
    train_to(run, cache, 2, "--privacy", "release", "--privacy.epsilon", "8")
    public = {file for file in run.rglob("*") if "private" not in file.parts}
    done = erase(run, ClientId(1), tmp_path / "key")
    found = {file for file in run.rglob("*") if "private" not in file.parts}
    assert found <= public, "a weight by the number of images, and a cosine with what stays at home"
    record = run / "private" / "erasures" / "0001.json"
    assert record.stat().st_mode & 0o077 == 0
    assert check_record(record)
    assert done.share_of_last_average == 1 / 4, "the server averaged without sizes"
    assert erased_clients(run) == {1}
