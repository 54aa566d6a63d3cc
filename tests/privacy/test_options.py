"""From options to a privatizer: calibrated for the whole run, or refused with a reason."""

import logging
from dataclasses import replace

import pytest

from eval.choices import schema
from pfedmoap.client.batches import Stream
from pfedmoap.client.privatizer import HasPrivacyAnalysis, NoPrivacy, PlannedTraining
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.errors import ConfigError, PrivacyError
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.wire.messages import ClientId
from privacy.central_options import Central
from privacy.checks import warn_of_delta
from privacy.options import DPSGD, Release

PLAN = PlannedTraining(rounds=5, epochs=2, batch_size=8)
NAMES = sorted(Methods())


def made(name, setting, **options):
    return method_class(name)(setting, **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_what_holds(name, setting):
    method = made(name, setting)
    if not isinstance(method, HasPrivacyAnalysis):
        with pytest.raises(PrivacyError, match="has no analysis"):
            DPSGD().privatizer(method, PLAN, None)
        return
    for mode in ("joint", "decoupled", "release"):
        reason = gap_in_analysis(method, mode)
        assert reason is None or len(reason) > 20
        assert "of its own" not in str(reason)  # each states what it changes


def test_decoupled_needs_a_part_that_stays_home(setting):
    with pytest.raises(PrivacyError, match=r"PromptFL .*'decoupled'.*Use mode joint"):
        DPSGD(mode="decoupled").privatizer(made("promptfl", setting), PLAN, None)
    assert DPSGD(mode="decoupled").privatizer(made("pfedmoap", setting), PLAN, None).decoupled


def test_without_a_mode_the_gate_is_decoupled_where_there_is_one(setting):
    assert DPSGD().privatizer(made("pfedmoap", setting), PLAN, None).decoupled
    assert not DPSGD().privatizer(made("promptfl", setting), PLAN, None).decoupled
    averaged = made("pfedmoap", setting, gate_sharing="averaged")
    assert not DPSGD().privatizer(averaged, PLAN, None).decoupled


def test_a_gate_without_noise_cannot_be_averaged(setting):
    averaged = made("pfedmoap", setting, gate_sharing="averaged")
    with pytest.raises(PrivacyError, match="would upload it"):
        DPSGD(mode="decoupled").privatizer(averaged, PLAN, None)
    assert not DPSGD(mode="joint").privatizer(averaged, PLAN, None).decoupled


def test_a_method_that_nobody_analysed_is_refused():
    for options in (DPSGD(), DPSGD(mode="joint"), Release()):
        with pytest.raises(PrivacyError, match="has no analysis"):
            options.privatizer(object(), PLAN, None)
    assert isinstance(NoPrivacy().privatizer(object(), PLAN, None), NoPrivacy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_multiplier": 0.0}, "without noise there is no privacy"),
        ({"noise_multiplier": -1.0}, "must be positive"),
        ({"noise_multiplier": float("nan")}, "must be positive"),
        ({"max_grad_norm": float("inf")}, "finite"),
        ({"max_grad_norm": 0.0}, "positive"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("inf")}, "finite"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"delta": 0.5}, "everything may be given away"),
        ({"accountant": "gdp"}, "removed"),
        ({"sample_rate": 0.0}, "sample_rate"),
        ({"sample_rate": 1.5}, "sample_rate"),
    ],
)
def test_options_that_void_the_guarantee_are_refused(options, message):
    with pytest.raises(PrivacyError, match=message):
        DPSGD(**options)


def test_local_steps_are_the_steps_that_are_charged_and_taken(setting):
    """In place of epochs / sample_rate: what is planned, drawn and accounted for are the same."""
    options = DPSGD(epsilon=8.0, sample_rate=0.5, mode="joint")
    privacy = options.privatizer(made("promptfl", setting), replace(PLAN, local_steps=7), None)
    assert privacy.ledgers.budget.units == 7
    plan = privacy.batches([5], 1, [Stream(0, ClientId(3), 1)], 2, 8, 7)
    assert plan.active.sum(0).tolist() == [7]
    for round in range(1, PLAN.rounds + 1):
        authorised = privacy.authorise([ClientId(3)], round, {})
    assert 0.9 * 8.0 <= authorised.spent[ClientId(3)] <= 8.0


@pytest.mark.parametrize(("accountant", "epsilon"), [("pld", 1.0), ("pld", 8.0), ("rdp", 8.0)])
def test_the_budget_lasts_exactly_for_the_planned_rounds(setting, accountant, epsilon):
    options = DPSGD(epsilon=epsilon, accountant=accountant, sample_rate=0.5)
    privacy = options.privatizer(made("promptfl", setting), PLAN, None)
    assert privacy.ledgers.budget.units == 4  # 2 epochs at rate 1/2
    for round in range(1, PLAN.rounds + 1):
        authorised = privacy.authorise([ClientId(3)], round, {})
        assert authorised.allowed == (ClientId(3),)
    assert 0.9 * epsilon <= authorised.spent[ClientId(3)] <= epsilon
    late = privacy.authorise([ClientId(3)], PLAN.rounds + 1, {})
    assert late.allowed == ()
    assert "would exceed" in late.sat_out[ClientId(3)]


def test_release_lasts_exactly_for_the_planned_rounds(setting):
    privacy = Release(epsilon=4.0).privatizer(made("pfedmoap", setting), PLAN, None)
    spent = [
        privacy.authorise([ClientId(0)], round, {}).spent.get(ClientId(0))
        for round in range(1, PLAN.rounds + 2)
    ]
    assert spent[-1] is None
    assert spent[-2] == pytest.approx(4.0, abs=1e-3)
    assert sorted(spent[:-1]) == spent[:-1]


def test_too_little_noise_for_the_plan_is_said_beforehand(setting, caplog):
    with caplog.at_level(logging.WARNING):
        DPSGD(epsilon=0.5, noise_multiplier=0.7).privatizer(made("promptfl", setting), PLAN, None)
    assert "clients will sit out" in caplog.text


def test_a_seed_makes_the_result_not_private_and_says_so(setting, caplog):
    method = made("promptfl", setting)
    for options in (DPSGD(), Release()):
        assert options.privatizer(method, PLAN, None).describe()["is_private"]
        with caplog.at_level(logging.WARNING):
            seeded = replace(options, insecure_seed=1).privatizer(method, PLAN, None)
        assert "NOT private" in caplog.text
        assert not seeded.describe()["is_private"]
        assert "NOT private" in seeded.describe()["caveats"][0]


def test_the_statement_names_unit_neighbours_and_what_is_not_covered(setting):
    method = made("pfedmoap", setting)
    steps = DPSGD(counts="public").privatizer(method, PLAN, None).describe()
    assert steps["unit"] == "one training example of one client"
    assert steps["neighbours"] == "add or remove one example"
    assert any("declared public" in what for what in steps["not_covered"])
    assert steps["epsilon_planned"] <= steps["epsilon_budget"] == 8.0
    uploads = Release().privatizer(method, PLAN, None).describe()
    assert uploads["unit"] == "all data of one client"


def test_losses_are_accounted_by_their_distributions_unless_asked_otherwise(setting):
    privacy = DPSGD().privatizer(made("promptfl", setting), PLAN, None)
    assert privacy.describe()["mechanism"]["accountant"] == "pld"


def test_a_run_that_was_accounted_by_gdp_is_not_taken_up_again():
    with pytest.raises(PrivacyError, match=r"`gdp` was removed.*understates"):
        schema().resolve({"privacy": {"name": "dpsgd", "accountant": "gdp"}}).build("privacy")


@pytest.mark.parametrize(("delta", "warned"), [(1e-5, False), (0.02, True), (1 / 90, True)])
def test_a_large_delta_is_warned_of_by_what_is_public(setting, caplog, delta, warned):
    method = made("promptfl", setting)
    for options in (DPSGD(delta=delta), Release(delta=delta)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            options.privatizer(method, PLAN, None)
        assert ("would pass" in caplog.text) == warned


def test_delta_is_compared_with_the_size_that_the_options_imply(setting, caplog):
    planned = PlannedTraining(rounds=1, epochs=1, batch_size=100)  # at rate 1/4: 400 examples
    with caplog.at_level(logging.WARNING):
        DPSGD(delta=1 / 401).privatizer(made("promptfl", setting), planned, None)
        assert "would pass" not in caplog.text
        DPSGD(delta=1 / 400).privatizer(made("promptfl", setting), planned, None)
    assert "examples in a client" in caplog.text


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 700.0, 1e6])
def test_every_budget_gets_its_noise(setting, epsilon):
    for options in (DPSGD(epsilon=epsilon), Release(epsilon=epsilon)):
        statement = options.privatizer(made("promptfl", setting), PLAN, None).describe()
        assert 0.98 * epsilon <= statement["epsilon_planned"] <= epsilon


@pytest.mark.parametrize("name", ["dpsgd", "release", "central"])
@pytest.mark.parametrize("value", [1e308, 1e300, 1e7, 1e-7, 1e-44, 5e-324])
def test_numbers_beyond_floating_point_are_refused_before_a_run_starts(name, value):
    norm = "max_grad_norm" if name == "dpsgd" else "max_update_norm"
    options = ["noise_multiplier", norm] if value != 1e-7 else [norm]
    small = ["sample_rate"] if name == "dpsgd" and value < 1e-6 else []
    for option in options + small:
        with pytest.raises(ConfigError, match=option):
            schema().resolve({"privacy": {"name": name, option: value}})
        with pytest.raises(PrivacyError, match="must be"):
            {"dpsgd": DPSGD, "release": Release, "central": Central}[name](**{option: value})


def test_the_suggested_delta_is_a_smaller_one(caplog):
    """1e-5 is not what to choose in its own place."""
    warn_of_delta(1e-5, 8e5, "examples")
    assert "is large" in caplog.text
    assert "such as 1e-07" in caplog.text
