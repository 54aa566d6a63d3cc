"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.models import (
    clip,
    device,
    pytest_runtest_setup,
    same_random_numbers_in_every_run,
)

__all__ = [
    "clip",
    "device",
    "pytest_runtest_setup",
    "same_random_numbers_in_every_run",
]
