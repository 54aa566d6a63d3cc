"""Different mechanisms on the same people: one total, which is an upper bound and a tight one."""

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from pfedmoap.errors import PrivacyError
from privacy.accounting.epsilon import gaussian_epsilon, sampled_gaussian_epsilon
from privacy.ledgers.composition import (
    Steps,
    composed_accounts,
    composed_epsilon,
    total_epsilon,
)
from privacy.ledgers.ledger_file import Account, Charge

MIXTURES = [
    (Steps(1.0, 0.25, 40), Steps(2.0, 0.1, 200)),
    (Steps(5.0, 1.0, 10), Steps(2.0, 0.1, 20)),
    (Steps(0.8, 0.25, 4), Steps(20.0, 0.5, 100), Steps(3.0, 1.0, 2)),
]


def reference(mechanisms, accountant, delta):
    for noise, rate, steps in mechanisms:
        step = dp.GaussianDpEvent(noise)
        sampled = step if rate == 1 else dp.PoissonSampledDpEvent(rate, step)
        accountant.compose(dp.SelfComposedDpEvent(sampled, steps))
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("mechanisms", MIXTURES)
def test_the_total_is_that_of_dp_accounting(mechanisms):
    found = composed_epsilon(mechanisms, 1e-5)
    fine = PLDAccountant(value_discretization_interval=1e-3)
    assert found == pytest.approx(reference(mechanisms, fine, 1e-5), rel=5e-3)
    assert found < reference(mechanisms, RdpAccountant(), 1e-5)


def test_one_mechanism_costs_what_its_own_accountant_says():
    expected = sampled_gaussian_epsilon("pld", 1.1, 0.2, 60, 1e-5)
    assert composed_epsilon((Steps(1.1, 0.2, 60),), 1e-5) == pytest.approx(expected, rel=1e-9)
    parts = (Steps(1.1, 0.2, 10), Steps(1.1, 0.2, 50))
    assert composed_epsilon(parts, 1e-5) == pytest.approx(expected, rel=1e-9)


def test_plain_releases_add_up_exactly():
    """Multipliers 3 and 4 make up one of 2.4: 1/9 + 1/16 = 1/2.4^2."""
    found = composed_epsilon((Steps(3.0, 1.0, 1), Steps(4.0, 1.0, 1)), 1e-6)
    assert found == pytest.approx(gaussian_epsilon(2.4, 1, 1e-6), rel=1e-9)


def test_nothing_costs_nothing_and_hardly_any_noise_very_much():
    assert composed_epsilon((), 1e-5) == 0
    assert composed_epsilon((Steps(1.0, 0.5, 0),), 1e-5) == 0
    assert composed_epsilon((Steps(0.01, 0.5, 1), Steps(1.0, 0.5, 1)), 1e-5) > 5000


def test_a_tiny_delta_is_accounted_for_by_renyi():
    found = composed_epsilon(MIXTURES[0], 1e-20)
    assert found == pytest.approx(reference(MIXTURES[0], RdpAccountant(), 1e-20), rel=0.05)


def account(**mechanism):
    return Account("a", 8.0, {"name": "test", **mechanism}, (Charge(1, 2, 1.0), Charge(2, 2, 2.0)))


def test_runs_of_one_mechanism_are_priced_by_the_accountant_that_they_chose():
    for chosen in ("rdp", "pld"):
        one = account(unit="x", noise_multiplier=1.1, sample_rate=0.2, accountant=chosen)
        expected = sampled_gaussian_epsilon(chosen, 1.1, 0.2, 8, 1e-5)
        assert total_epsilon((one, one), 1e-5) == expected
        plain = account(unit="x", noise_multiplier=1.1, accountant=chosen)
        assert total_epsilon((one, plain), 1e-5) == composed_accounts((one, plain), 1e-5)
    strict, loose = (sampled_gaussian_epsilon(name, 1.1, 0.2, 8, 1e-5) for name in ("pld", "rdp"))
    assert strict < 0.99 * loose
    assert total_epsilon((), 1e-5) == 0


def test_accounts_are_composed_by_what_they_say_of_themselves():
    both = (
        account(unit="client", noise_multiplier=3.0),
        account(unit="client", noise_multiplier=4.0),
    )
    assert composed_accounts(both, 1e-5) == composed_epsilon(
        (Steps(3.0, 1.0, 4), Steps(4.0, 1.0, 4)), 1e-5
    )


def test_different_units_have_no_total():
    with pytest.raises(PrivacyError, match=r"different units \(client; example\)"):
        composed_accounts(
            (
                account(unit="example", noise_multiplier=3),
                account(unit="client", noise_multiplier=3),
            ),
            1e-5,
        )


@pytest.mark.parametrize(
    "mechanism", [{}, {"noise_multiplier": True}, {"noise_multiplier": 1, "sample_rate": 1.5}]
)
def test_an_account_that_does_not_say_its_noise_is_refused(mechanism):
    with pytest.raises(PrivacyError, match="cannot be added up"):
        composed_accounts((account(**mechanism),), 1e-5)


def test_more_steps_than_distributions_can_be_composed_of_have_an_upper_bound():
    """A ledger may hold 10^9 units; by hand, or from very many rounds."""
    steps = 10**9
    for noise in (1.0, 1e5):
        several = composed_epsilon((Steps(noise, 0.5, steps), Steps(2 * noise, 0.5, 1)), 1e-5)
        unsampled = gaussian_epsilon(noise, steps, 1e-5)
        one = sampled_gaussian_epsilon("pld", noise, 0.5, steps, 1e-5)
        assert 0 < one <= unsampled
        assert one <= several * (1 + 1e-6)
        assert one >= sampled_gaussian_epsilon("pld", noise, 0.5, 1000, 1e-5)
