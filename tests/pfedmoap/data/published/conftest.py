"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.miniatures import accept_our_flowers, complete_root, copied_root

__all__ = [
    "accept_our_flowers",
    "complete_root",
    "copied_root",
]
