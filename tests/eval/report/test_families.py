"""Every method of the package has a family of its own, and a user's file has one, too."""

from eval.report.families import OUTSIDE, families, family_of
from pfedmoap.methods.registry import Methods


def test_every_method_has_a_family():
    assert [name for name in Methods() if family_of(name) == OUTSIDE] == []
    assert {family_of(name) for name in Methods()} == set(families()[:-1])


def test_a_method_of_ones_own_is_from_outside():
    assert family_of("/home/me/fedrep.py@1f0c9a2b7d44") == OUTSIDE == families()[-1]
