"""What every method must do. Methods are found by name: a new one is tested without an edit."""

import pytest

from eval.contract.suite import CHECKS
from pfedmoap.methods.registry import method_class, method_classes

NAMES = sorted(method_classes())


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name, check, setting, small, quick):
    CHECKS[check](small(method_class(name)(setting, **quick.get(name, {}))))


def test_methods_are_found_by_their_files():
    assert {"promptfl", "local_coop", "pfedmoap", "zero_shot"} <= set(NAMES)
    assert not {"averaged_prompt", "prompt_set", "external"} & set(NAMES)
