"""What every method must do. Methods are found by name: a new one is tested without an edit."""

import pytest

from eval.contract.suite import CHECKS
from pfedmoap.methods.registry import Methods, method_class

NAMES = list(Methods())


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name, check, setting, small, quick):
    CHECKS[check](small(method_class(name)(setting, **quick.get(name, {}))))
