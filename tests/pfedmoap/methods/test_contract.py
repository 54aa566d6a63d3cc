"""What every method must do. Methods are found by name: a new one is tested without an edit."""

import pytest

from eval.contract.federation import SmallFederation
from eval.contract.suite import CHECKS
from pfedmoap.methods.registry import Methods, method_class

NAMES = list(Methods())


@pytest.fixture(scope="module")
def worlds() -> dict[str, SmallFederation]:
    """One federation of each method for all checks, as `check-method` makes it."""
    return {}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name, check, worlds, setting, small, quick):
    if name not in worlds:
        worlds.clear()
        worlds[name] = small(method_class(name)(setting, **quick.get(name, {})))
    CHECKS[check](worlds[name])
