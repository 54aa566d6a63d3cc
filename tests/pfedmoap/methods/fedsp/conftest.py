"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.language_models import file, folder, lm

__all__ = [
    "file",
    "folder",
    "lm",
]
