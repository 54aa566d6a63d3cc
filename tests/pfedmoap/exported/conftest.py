"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.small_federation import data, quick, setting, small

__all__ = [
    "data",
    "quick",
    "setting",
    "small",
]
