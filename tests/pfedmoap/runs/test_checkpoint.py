"""What a server holds of clients, written by the cohort: whole, resumed, extended, repaired."""

import pytest
import torch

from pfedmoap.contract.server_rows import ServerRows
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import Checkpoint, RunDirectory
from pfedmoap.runs.repair import repair
from pfedmoap.runs.rewrite import rewrite_states
from pfedmoap.wire.messages import ClientId
from tests.helpers.earlier_runs import write_earlier_run

WIDTH = 400


def row(client, round):
    """Larger than what a record keeps in itself."""
    return {
        "prompts": torch.full((2, WIDTH), client + 1000.0 * round),
        "place": torch.tensor(client),
    }


class Asked(dict):
    """Entries, and who was asked for."""

    def __init__(self, entries):
        super().__init__(entries)
        self.asked = []

    def __getitem__(self, client):
        self.asked.append(client)
        return super().__getitem__(client)


def save(run, round, cohort, truth):
    """A round after which the cohort's entries are new; returns who was read."""
    truth |= {ClientId(client): row(client, round) for client in cohort}
    rows = Asked(truth)
    shared = {"context": torch.full((3,), float(round))}
    checkpoint = Checkpoint(round, shared, {}, rows=ServerRows("ids", rows), changed=cohort)
    run.save(checkpoint, (), {"round": round})
    return rows.asked


def check(run, round, truth):
    server = RunDirectory(run.path).load_server()
    assert torch.equal(server["context"], torch.full((3,), float(round)))
    assert server["ids"].tolist() == sorted(truth)
    for name in ("prompts", "place"):
        expected = torch.stack([truth[client][name] for client in sorted(truth)])
        assert torch.equal(server[name], expected)
        assert server[name].dtype == expected.dtype


@pytest.fixture(params=[False, True], ids=["plain", "private"])
def run(request, tmp_path):
    made = RunDirectory.create(tmp_path, {"method": "x"}, {}, resume=False, divided=request.param)
    made.resume()
    return made


COHORTS = [[3, 1], [2, 3], [7, 8, 9], [1], [9, 2]]


def test_a_round_reads_and_writes_its_cohort_alone_and_everything_is_there(run):
    truth = {}
    for round, cohort in enumerate(COHORTS, 1):
        assert save(run, round, cohort, truth) == sorted(cohort)
        check(run, round, truth)
        whole = RunDirectory(run.path).load()
        assert whole.rows is None
        assert torch.equal(whole.server["prompts"], run.load_server()["prompts"])
    file = run.path / f"server/shard-{len(COHORTS):06d}.safetensors"
    assert file.stat().st_size < 4 * 2 * WIDTH * 4  # two entries, and at most two that were moved


def test_a_resumed_run_ends_in_the_same_files(tmp_path):
    runs = []
    for stops in ((), (2, 3)):
        folder = tmp_path / str(len(stops))
        run, truth = RunDirectory.create(folder, {}, {}, resume=False), {}
        for round, cohort in enumerate(COHORTS, 1):
            if round in stops:
                run = RunDirectory(folder)
                assert run.resume().round == round - 1
            save(run, round, cohort, truth)
        run.finish()
        files = [file for file in folder.rglob("*") if file.is_file() and file.parent != folder]
        runs.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    assert runs[0] == runs[1]
    assert sum("server/shard" in name for name in runs[0]) >= 2


def test_a_run_of_an_earlier_version_goes_on_in_rows(tmp_path):
    run, truth = RunDirectory.create(tmp_path, {}, {}, resume=False), {}
    for round, cohort in enumerate(COHORTS[:3], 1):
        save(run, round, cohort, truth)
    write_earlier_run(tmp_path, 3, run.load_server(), {})
    check(run, 3, truth)
    run = RunDirectory(tmp_path)
    assert run.resume().round == 3
    assert save(run, 4, COHORTS[3], truth) == sorted(truth), "once all of them"
    assert save(run, 5, COHORTS[4], truth) == sorted(COHORTS[4])
    check(run, 5, truth)


def test_a_state_without_clients_has_no_rows_and_a_secret_cohort_writes_all(run):
    run.save(Checkpoint(1, {"context": torch.ones(3)}, {}), (), {"round": 1})
    assert set(run.load_server()) == {"context"}
    truth = {}
    save(run, 2, [4, 5], truth)
    check(run, 2, truth)
    whole = {"context": torch.ones(3), "ids": torch.tensor([4])}
    run.save(Checkpoint(3, whole, {}), (), {"round": 3})
    assert RunDirectory(run.path).load_server()["ids"].tolist() == [4]
    run.save(Checkpoint(4, whole, {}), (), {"round": 4})
    assert not list((run.path / "server").glob("shard-*"))


@pytest.mark.parametrize("at", [-3, 9])
def test_a_damaged_row_is_refused_and_repair_goes_back(run, at):
    truth = {}
    for round, cohort in enumerate(COHORTS[:3], 1):
        save(run, round, cohort, truth)
    file = run.path / "server/shard-000003.safetensors"
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"shard-000003.* is damaged"):
        RunDirectory(run.path).resume()
    done = repair(run.path)
    assert done.round == 2
    assert [each.name for each in done.aside if "shard" in each.name] == [file.name]
    check(run, 2, {c: row(c, r) for c, r in ((1, 1), (2, 2), (3, 2))})


def test_states_that_are_written_anew_leave_no_row_behind(run):
    truth = {}
    for round, cohort in enumerate(COHORTS[:3], 1):
        save(run, round, cohort, truth)
    run = RunDirectory(run.path)
    saved = run.resume()
    left = {"context": saved.server["context"], "ids": torch.tensor([1])}
    rewrite_states(run, Checkpoint(3, left, saved.local_states), {})
    assert [file.name for file in (run.path / "server").iterdir()] == ["round-000003.safetensors"]
    assert RunDirectory(run.path).load_server()["ids"].tolist() == [1]
    run = RunDirectory(run.path)
    assert run.resume().server["ids"].tolist() == [1]
    save(run, 4, [6], truth)
    check(run, 4, truth)


def test_a_row_that_went_is_gone_from_the_state(run):
    truth = {}
    save(run, 1, [1, 2, 3], truth)
    del truth[2]
    assert save(run, 2, [3], truth) == [1, 3], "written anew"
    check(run, 2, truth)
