"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.datasets import make_dataset

__all__ = [
    "make_dataset",
]
