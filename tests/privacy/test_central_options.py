"""Options of central privacy: only for averages, as much noise as it takes, and what is said."""

import json
import logging
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.config.server import ServerOptions
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.wire.messages import ClientId, Update
from privacy.accounting.epsilon import gaussian_noise
from privacy.central_options import Central
from privacy.options import Release
from tests.helpers.central_privacy import (
    AVERAGING,
    EVERYBODY,
    PLAN,
    arrays_of,
    central,
    made,
    made_up_updates,
)
from tests.helpers.places import ROOT


def test_the_methods_that_average_are_known_and_the_docs_list_them(setting):
    declared = {
        name for name in Methods() if gap_in_analysis(made(name, setting), "central") is None
    }
    assert declared == AVERAGING
    table = (ROOT / "docs" / "methods" / "README.md").read_text()
    assert set(re.findall(r"^\| \[`(\w+)`\].* c \|$", table, re.MULTILINE)) == declared


def test_a_method_that_overrides_the_average_is_no_longer_for_central(setting):
    """A base that is asked by a subclass with another average does not speak of its own."""

    class Median(method_class("promptfl")):
        def aggregate(self, state, updates):
            return state

        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    class Apart(method_class("fedavg_pt")):
        def plan(self, state, cohort, round):
            return super().plan(state, cohort, round)

        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    for kind in (Median, Apart):
        assert "otherwise than through their plain average" in gap_in_analysis(
            kind(setting), "central"
        )


@pytest.mark.parametrize("name", sorted(AVERAGING))
def test_a_method_that_says_central_sees_uploads_through_their_mean_alone(name, setting):
    """Three uploads, one upload that is their mean, and the mean from somebody else: one state."""
    method = made(name, setting)
    state = method.init()
    updates = made_up_updates(method, state, [None] * 3)
    mean = {
        name: torch.stack([update.arrays[name].double() for update in updates]).mean(0).float()
        for name in method.uploads
    }
    expected = arrays_of(method, method.aggregate(state, updates))
    for sender in (2, -1, 77):
        alone = method.aggregate(state, [Update(1, ClientId(sender), mean, None)])
        found = arrays_of(method, alone)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found)
    downloads = method.plan(alone, [ClientId(2), ClientId(77)], 2)
    for first in downloads[0].arrays:  # and what goes down is the same for everybody
        assert torch.equal(downloads[0].arrays[first], downloads[1].arrays[first])


@pytest.mark.parametrize("name", sorted(set(Methods()) - AVERAGING))
def test_all_others_are_refused_with_a_reason_and_a_way_out(name, setting):
    method = made(name, setting)
    with pytest.raises(PrivacyError, match=r"'central': .*([Uu]se |joint)"):
        Central().privatizer(method, EVERYBODY, None)
    with pytest.raises(PrivacyError, match="has no analysis"):
        Central().privatizer(object(), EVERYBODY, None)


def noise_on_the_mean(expected, clients, rounds):
    """Standard deviation on a round's mean at epsilon 8: local release, and central."""
    norm = Release().max_update_norm
    assert Central().max_update_norm == norm
    local = 2 * norm * gaussian_noise(8.0, 1e-5, rounds) / expected**0.5
    everybody = tuple(ClientId(i) for i in range(clients))
    plan = PlannedTraining(rounds, 1, 3, clients=everybody, participation=expected / clients)
    privacy = Central().privatizer(_Averages(), plan, None)
    return local, privacy.noise_multiplier * norm / privacy.expected_cohort


class _Averages:
    setting = SimpleNamespace(server=ServerOptions())

    def privacy_gap(self, mode):
        return None


@pytest.mark.parametrize("rounds", [1, 10, 100])
def test_100_clients_a_round_need_20_times_less_noise_than_local_release(rounds):
    local, mean = noise_on_the_mean(100, 100, rounds)
    assert local / mean == pytest.approx(20, rel=1e-3)
    few_local, few_mean = noise_on_the_mean(25, 25, rounds)
    assert few_local / few_mean == pytest.approx(10, rel=1e-3)  # as the root of the clients


def test_the_table_in_the_docs_is_what_the_options_give():
    row = r"^\| ([\d,]+) of ([\d,]+)(?: expected)?, (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$"
    rows = re.findall(row, (ROOT / "docs" / "privacy.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    for expected, clients, rounds, *shown in rows:
        sizes = [int(text.replace(",", "")) for text in (expected, clients, rounds)]
        local, mean = noise_on_the_mean(*sizes)
        assert [float(text) for text in shown] == pytest.approx(
            [local, mean, local / mean], rel=0.005
        )


def test_the_statement_says_who_is_trusted(setting):
    adaptive = central(made("promptfl", setting), clipping="adaptive", insecure_seed=None)
    said = adaptive.describe()
    assert said["unit"] == "a client with all its data"
    assert said["neighbours"].startswith("add or remove one client")
    assert "server" in said["trusted"]
    assert any("trusted" in what for what in said["not_covered"])
    assert said["is_private"]
    assert said["epsilon_planned"] <= 8
    mechanism = said["mechanism"]
    assert mechanism["sum_noise_multiplier"] > mechanism["noise_multiplier"]
    json.dumps(said)
    with pytest.raises(PrivacyError, match="names none"):
        Central().privatizer(_Averages(), replace(PLAN, clients=()), None)


def test_a_delta_that_would_let_one_client_through_is_said(setting, caplog):
    with caplog.at_level(logging.WARNING):
        central(made("promptfl", setting), delta=0.4)
    assert "one in 2 of what it protects" in caplog.text
    assert "number of clients" in caplog.text
