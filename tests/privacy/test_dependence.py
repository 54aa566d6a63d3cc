"""What of a private run may depend on a client's data: only what its statement says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch

from pfedmoap.client.privatizer import Mode, NoPrivacy, PlannedTraining
from pfedmoap.contract.capabilities import CanPersonalise, personal_states
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.mechanisms.mechanism import with_penalty
from privacy.options import DPSGD, Release
from tests.helpers.small_federation import QUICK, make_data
from tests.helpers.training_steps import JOINT, run_rounds

PLAN = PlannedTraining(rounds=3, epochs=1, batch_size=3)
MODES: tuple[Mode, ...] = ("joint", "decoupled", "release")
ME = ClientId(0)


def forms() -> list[tuple[str, Mode]]:
    names = {*Methods(), *JOINT}
    return [(name, mode) for name in sorted(names) for mode in MODES]


def made(name, mode, setting):
    kind = name.split(",")[0]
    method = method_class(kind)(setting, **{**QUICK.get(kind, {}), **JOINT.get(name, {})})
    if gap_in_analysis(method, mode) is not None:
        pytest.skip(f"{name} is refused in mode {mode}")
    return method


def options(mode: Mode):
    return Release() if mode == "release" else DPSGD(mode=mode, sample_rate=0.5)


@dataclass(frozen=True)
class Blind:
    """A mechanism that sees no data: what still depends on them goes past the mechanism."""

    def gradients(self, problem, params, batch, noise):
        zeros = {name: torch.zeros_like(value) for name, value in params.items()}
        return with_penalty(problem, params, zeros), torch.zeros(batch.weight.shape[0])


def kept(name, mode, setting, size, seed) -> tuple[Mapping, Mapping, str]:
    """What my rounds leave with me, and what I predict with, when the private steps are blind."""
    method = made(name, mode, setting)
    privacy = replace(options(mode).privatizer(method, PLAN, None), mechanism=Blind())
    data = {
        client: make_data(ClientId(client + seed * (client == ME)), count, 128)
        for client, count in ((ME, size), (ClientId(1), 3), (ClientId(4), 6))
    }
    state, local_states, _ = run_rounds(method, data, privacy, 2)
    tasks = [
        ClientTask(download, local_states.get(download.client), data[download.client])
        for download in method.plan(state, [ME], 3)
    ]
    own = personal_states(method, tasks, NoPrivacy())[ME]
    return local_states.get(ME, {}), own or {}, privacy.describe()["private"]


def same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, mode in forms() if mode != "release"]
)
def test_a_statement_leaves_out_what_a_client_trains_without_noise(name, mode, setting):
    """With blind steps, what depends on the data was trained past them; the statement says so."""
    (local, own, said), (other_local, other_own, _) = (
        kept(name, mode, setting, size, seed) for size, seed in ((5, 0), (4, 90))
    )
    assert ("all else that its rounds train" in said) == (mode == "joint")
    assert ("its gate" in said) == (mode == "decoupled")
    if mode == "joint":
        assert same(local, other_local)
    else:
        assert not same(local, other_local)  # the gate has learned
    tunes = isinstance(made(name, mode, setting), CanPersonalise)
    assert ("tunes on its own examples for inference" in said) == tunes
    if mode == "joint":
        assert same(own, other_own) == (not tunes)


@pytest.mark.parametrize(("name", "mode"), forms())
def test_a_client_without_examples_takes_part_like_any_other(name, mode, setting):
    """One example fewer must not end the run, nor show in who takes part and what is uploaded."""
    method = made(name, mode, setting)
    seen = []
    for sizes in ((1, 3, 6), (0, 3, 6), (0, 0, 0)):
        data = {
            client: make_data(client, size, 128)
            for client, size in zip((ME, ClientId(1), ClientId(4)), sizes, strict=True)
        }
        privacy = options(mode).privatizer(method, PLAN, None)
        _, _, results = run_rounds(method, data, privacy, 2)
        # Later messages may differ in size, by what the noisy uploads of round 1 have decided.
        seen.append((results[0].traffic, [(one.cohort, one.sat_out) for one in results]))
        assert not any(one.rejected for one in results)
    assert seen[0] == seen[1] == seen[2]
