"""What noise has to last for: the rounds of one client by schedule and cap, and no more."""

import pytest

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.engine.simulation import Rounds
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from privacy.accounting.plan import client_rounds
from privacy.options import DPSGD, Release

HUNDRED = [ClientId(client) for client in range(100)]


def plan(rounds_of_a_client=None, **changes):
    values = {"rounds": 100, "epochs": 5, "batch_size": 8} | changes
    return PlannedTraining(**values, rounds_of_a_client=rounds_of_a_client)


@pytest.mark.parametrize(
    ("drawn", "cap", "count", "why"),
    [
        (None, None, 100, "no more rounds"),
        (100, 200, 100, "no more rounds"),
        (17, None, 17, "public schedule draws no client for more of the 100"),
        (17, 20, 17, "public schedule"),
        (17, 5, 5, "sits out after 5"),
        (None, 5, 5, "sits out after 5"),
    ],
)
def test_the_smallest_bound_counts_and_is_named(drawn, cap, count, why):
    found = client_rounds(plan(drawn), cap)
    assert found.count == count
    assert why in found.why


def test_a_cap_that_lets_nobody_in_is_refused():
    assert client_rounds(plan(), 1).count == 1
    for cap in (0, -1):
        with pytest.raises(PrivacyError, match=f"at least 1, got {cap}"):
            client_rounds(plan(), cap)


def test_a_hundred_rounds_at_a_tenth_are_seventeen_and_need_less_than_half_the_noise(setting):
    method = method_class("promptfl")(setting)
    drawn = Rounds(100, participation=0.1).most_of_one_client(HUNDRED, seed=0)
    assert drawn == 17
    for accountant, noises in {"rdp": (7.19, 3.08), "pld": (6.77, 2.90)}.items():
        for planned, noise in zip((plan(), plan(drawn)), noises, strict=True):
            options = DPSGD(epsilon=8, accountant=accountant)
            statement = options.privatizer(method, planned, None).describe()
            assert statement["mechanism"]["noise_multiplier"] == pytest.approx(noise, abs=0.01)
            assert statement["epsilon_planned"] <= 8
    every, scheduled = (
        Release().privatizer(method, planned, None).describe() for planned in (plan(), plan(drawn))
    )
    ratio = (17 / 100) ** 0.5
    noise = [each["mechanism"]["noise_multiplier"] for each in (every, scheduled)]
    assert noise[1] == pytest.approx(ratio * noise[0], rel=1e-3)
    assert scheduled["rounds_planned"] == 17
    assert "public schedule" in scheduled["rounds_planned_because"]


@pytest.mark.parametrize("mode", [DPSGD, Release])
def test_a_client_sits_out_after_its_rounds_however_much_noise_there_is(mode, setting):
    planned = plan(rounds=5, epochs=1)
    options = mode(epsilon=50.0, noise_multiplier=100.0, max_rounds_per_client=2)
    privacy = options.privatizer(method_class("promptfl")(setting), planned, None)
    told = [privacy.authorise([ClientId(1)], round, set()) for round in (1, 3, 4)]
    assert [each.allowed for each in told] == [(ClientId(1),), (ClientId(1),), ()]
    assert "max_rounds_per_client is 2" in told[2].sat_out[ClientId(1)]
    assert told[2].spent == {}
    assert privacy.authorise([ClientId(2)], 4, set()).allowed == (ClientId(2),)


@pytest.mark.parametrize("mode", [DPSGD, Release])
def test_a_cap_is_calibrated_for(mode, setting):
    planned = plan(rounds=5, epochs=1)
    method = method_class("promptfl")(setting)
    privacy = mode(epsilon=4.0, max_rounds_per_client=2).privatizer(method, planned, None)
    spent = [privacy.authorise([ClientId(1)], round, set()).spent for round in (1, 2)]
    assert 3.9 < spent[1][ClientId(1)] <= 4.0
    with pytest.raises(PrivacyError, match="at least 1"):
        mode(max_rounds_per_client=0)


def test_a_run_that_is_made_longer_finds_its_ledgers_closed(setting, tmp_path):
    """The configuration is compared first; this is what holds where somebody edits that."""
    method = method_class("promptfl")(setting)
    for options, noise in ((DPSGD(), "noise_multiplier"), (Release(), "noise_multiplier")):
        folder = tmp_path / type(options).__name__
        short = options.privatizer(method, plan(2), folder)
        assert short.authorise([ClientId(1)], 1, {}).allowed
        longer = options.privatizer(method, plan(3), folder)
        with pytest.raises(PrivacyError, match=noise):
            longer.authorise([ClientId(1)], 2, {ClientId(1): 1})
        assert short.authorise([ClientId(1)], 2, {ClientId(1): 1}).allowed
        assert not short.authorise([ClientId(1)], 3, {ClientId(1): 2}).allowed
