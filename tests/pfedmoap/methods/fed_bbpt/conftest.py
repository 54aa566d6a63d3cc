"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.black_box import question, vectors, words

__all__ = [
    "question",
    "vectors",
    "words",
]
