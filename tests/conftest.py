"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.models import _same_random_numbers_in_every_run, clip, device

__all__ = [
    "_same_random_numbers_in_every_run",
    "clip",
    "device",
]
