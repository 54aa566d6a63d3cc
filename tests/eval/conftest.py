"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.runs import cache, finished_run, loader, private_run

__all__ = [
    "cache",
    "finished_run",
    "loader",
    "private_run",
]
