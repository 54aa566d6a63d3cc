"""A file of attacks is resolved as a whole before the first run, and refused by name."""

import pytest

from eval.attacks.catalogue import ATTACKS
from eval.attacks.running import key_of
from eval.attacks.spec import plan_of, read_plan
from pfedmoap.errors import ConfigError
from tests.helpers.attacks import SMALL
from tests.helpers.places import ROOT


def test_cases_are_all_combinations_and_each_method_and_defence_without_attackers():
    plan = plan_of(SMALL | {"seeds": [0, 5]})
    cases = list(plan.cases())
    assert len(cases) == len(plan) == 2 * 2 * 2 * (1 + 2 * 4)
    some = plan_of(SMALL | {"elsewhere": ["none"], "recommended": "none"})
    assert len([*some.cases()]) == len(some) == 2 * (2 * (1 + 4) + 4)
    assert {case.defence for case in some.cases() if case.share == 0.5} == {"none"}
    assert len(set(cases)) == len(cases)
    assert sum(case.attack == "none" for case in cases) == 2 * 2 * 2
    assert {case.config.sections["seeds"]["partition"] for case in cases} == {0, 5}
    assert plan.recommended == "median <b>"


def test_a_case_is_known_by_all_that_decides_it():
    cases = list(plan_of(SMALL).cases())
    keys = {key_of(case, target) for case in cases for target in (3, 4)}
    assert len(keys) == 2 * len(cases)
    elsewhere = SMALL | {"base": SMALL["base"] | {"features": {"cache": "/tmp/other"}}}
    again = list(plan_of(elsewhere).cases())
    assert [key_of(a, 3) for a in cases] == [key_of(b, 3) for b in again]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": ["nan"]}, "no 'attack' .'attack' is perhaps 'attacks'"),
        ({"attacks": ["nam"]}, "no attack 'nam'; nearest: nan; there are: nan"),
        ({"attacks": []}, "attacks must be a list of different values"),
        ({"attacks": ["nan", "nan"]}, "attacks must be a list of different values"),
        ({"shares": [20]}, "between 0 and 1, such as 0.2, got 20"),
        ({"shares": [1.0]}, "between 0 and 1"),
        ({"seeds": [True]}, "seeds must be whole numbers, got True"),
        ({"recommended": "mean"}, "'mean' is no defence"),
        ({"elsewhere": ["none"]}, "the first and the recommended one among them"),
        ({"target": -1}, "target must be the number of a class"),
        ({"methods": {}}, "methods must hold at least one"),
        ({"defences": {"a": {"seeds": {"training": 1}}}}, "without seeds"),
        ({"defences": {"a": {"privacy": {"name": "release"}}}}, "its results are private"),
        ({"methods": {"x": {"method": "nothing"}}}, "method 'x', defence 'none': no method"),
    ],
)
def test_a_wrong_file_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(SMALL | change)


def test_the_committed_table_has_every_attack_at_three_shares():
    plan = read_plan(ROOT / "eval" / "configs" / "attack.yaml")
    assert set(plan.attacks) == set(ATTACKS)
    assert plan.shares == (0.1, 0.2, 0.4)
    assert {"pFedMoAP", "PromptFL"} <= set(plan.methods)
    assert plan.defences[0] == "none"
