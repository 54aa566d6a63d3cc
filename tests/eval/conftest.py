"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.runs import bench, cache, finished_run

__all__ = [
    "bench",
    "cache",
    "finished_run",
]
