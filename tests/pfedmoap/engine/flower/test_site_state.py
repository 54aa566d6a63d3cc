"""A site's state survives restarts, and follows what the server admitted."""

import pytest
import torch

from pfedmoap.engine.flower.site_state import FILE, SiteState
from pfedmoap.errors import RunError
from pfedmoap.wire.messages import ClientId


def gate(value):
    return {"gate": torch.full((2,), float(value))}


def value(arrays):
    return None if arrays is None else float(arrays["gate"][0])


@pytest.fixture
def state(tmp_path):
    return SiteState(tmp_path / "site", ClientId(3))


def test_what_counts_is_what_was_admitted(state):
    assert state.load(0) is None
    state.save(1, 0, gate(1), {}, 1)
    assert value(state.load(0)) is None, "the server lost round 1: it never was"
    assert value(state.load(1)) == 1
    state.save(2, 1, gate(2), {}, 2)
    assert value(state.load(1)) == 1, "round 2 was refused, or runs again"
    assert value(state.load(2)) == 2
    state.save(5, 1, gate(5), {}, 3)
    assert (value(state.load(1)), value(state.load(5))) == (1, 5)
    assert (state.charges, state.rounds) == (3, (1, 5))


def test_a_state_is_newer_than_a_server_that_was_set_back(state):
    state.save(1, 0, gate(1), {}, 0)
    state.save(2, 1, gate(2), {}, 0)
    state.save(3, 2, gate(3), {}, 0)
    assert value(state.load(0)) == 2


def test_it_survives_a_restart_and_is_for_its_owner_alone(state):
    state.save(1, 0, gate(1), {}, 0)
    again = SiteState(state.folder, ClientId(3))
    assert value(again.load(1)) == 1
    assert all(file.stat().st_mode & 0o077 == 0 for file in state.folder.iterdir())


def test_what_outlasts_a_refusal_is_merged_and_kept(state):
    state.save(1, 0, gate(1), {}, 0)
    state.save(2, 1, gate(2), {"queries": torch.tensor(7)}, 0)
    assert value(state.load(1)) == 1
    assert int(state.load(1)["queries"]) == 7
    assert "queries" not in state.load(2)
    state.save(3, 1, gate(3), {}, 0)
    assert (value(state.load(1)), int(state.load(1)["queries"])) == (1, 7)
    assert value(state.load(3)) == 3


def test_old_files_go(state):
    for round in range(1, 6):
        state.save(round, round - 1, gate(round), {"queries": torch.tensor(round)}, 0)
    assert len(list(state.folder.glob("*.safetensors"))) == 3


def test_damage_loss_and_another_sites_state_are_refused(state, tmp_path):
    state.save(1, 0, gate(1), {}, 0)
    with pytest.raises(RunError, match="of client 3, expected 4"):
        SiteState(state.folder, ClientId(4)).load(1)
    [file] = state.folder.glob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(RunError, match="checksum"):
        state.load(1)
    file.unlink()
    with pytest.raises(RunError, match="missing"):
        state.load(1)
    file.write_bytes(content)
    (state.folder / FILE).unlink()
    with pytest.raises(RunError, match=r"state\.json is missing"):
        state.load(1)


def test_all_states_are_rewritten_for_erasure(state):
    state.save(1, 0, gate(1), {}, 0)
    state.save(2, 1, gate(2), {"experts": torch.ones(2)}, 0)

    def tenfold(arrays):
        return {n: 10 * v for n, v in arrays.items()} if "gate" in arrays else {}

    assert state.rewrite(lambda arrays: arrays) == 0
    assert state.rewrite(tenfold) == 3
    assert (value(state.load(1)), value(state.load(2))) == (10, 20)
    assert "experts" not in state.load(1), "what outlasts a refusal is a state, too"
    assert state.rewrite(tenfold) == 2
    assert value(state.load(2)) == 200
    assert len(list(state.folder.glob("*.safetensors"))) == 3


def test_a_round_that_comes_twice_overwrites_no_state_that_counts(state):
    """The server was set back to a copy of round 4; the site's state is that of round 5."""
    for round in range(1, 6):
        state.save(round, round - 1, gate(round), {}, 0)
    state.save(6, 5, gate(6), {}, 0)
    state.save(5, 4, gate(55), {}, 0)
    assert value(state.load(4)) == 5, "the second round 5 was refused"
    assert value(state.load(5)) == 55


def test_a_refused_first_round_that_runs_again_is_no_other_state(state):
    state.save(1, 0, gate(1), {"queries": torch.tensor(7)}, 0)
    state.save(1, 0, gate(2), {}, 0)
    assert state.rewrite(lambda arrays: {n: v + 1 for n, v in arrays.items()}) == 2
    assert int(state.load(0)["queries"]) == 8
    assert value(state.load(1)) == 3
    assert "gate" not in state.load(0)
