"""A privacy analysis speaks of the class that it is written in, and of no other one."""

from functools import cached_property

import pytest

from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.wire.messages import ClientId
from privacy.central_options import Central
from privacy.options import DPSGD, Release

PLAN = PlannedTraining(1, 1, 3, clients=(ClientId(0),))
MODES = ("joint", "decoupled", "release", "central")
OPTIONAL = ("declines", "personalise")


def steps_of(kind):
    """All that a subclass may replace."""
    names = {name for each in kind.__mro__[:-1] for name in vars(each) if name[:2] != "__"}
    steps = {name for name in names if hasattr(getattr(kind, name), "__get__")}
    return sorted((steps | set(OPTIONAL)) - {"privacy_gap"})


def other(self, *given, **options):
    """What takes a step's place."""


@pytest.mark.parametrize("name", sorted(Methods()))
def test_whatever_is_replaced_no_analysis_is_inherited(name, setting):
    kind = method_class(name)
    method = kind(setting)
    for step in steps_of(kind):
        for replacement in (other, property(other), cached_property(other)):
            changed = type("Changed", (kind,), {step: replacement})
            instance = object.__new__(changed)  # its options may need the step that is gone
            instance.__dict__.update(vars(method))
            for mode in MODES:
                assert f"replaces `{step}` of" in gap_in_analysis(instance, mode)


class Mixin:
    def divide(self, client):
        return super().divide(client)


@pytest.mark.parametrize("options", [DPSGD(), Release(), Central()])
def test_a_private_run_needs_an_analysis_that_was_stated(options, setting):
    """Also of a class between, of a mixin, and for what the base does not have at all."""
    kind = method_class("promptfl")

    class Changed(Mixin, kind):
        pass

    class Later(Changed):
        pass

    class Declines:
        def declines(self, local):
            return None

    class Last(kind, Declines):
        pass

    class States:
        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    class Before(States, kind):  # what States says is not about it
        def divide(self, client):
            return super().divide(client)

    for changed in (Changed, Later, Last, Before):
        with pytest.raises(PrivacyError, match="privacy_gap of its own"):
            options.privatizer(changed(setting), PLAN, None)

    class Stated(Later):
        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    class OtherDefaults(Stated):
        context_length: int = 3
        weighting: str = "uniform"

    for fine in (kind, Stated, OtherDefaults):
        assert options.privatizer(fine(setting), PLAN, None).describe()["is_private"]
