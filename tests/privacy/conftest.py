"""Fixtures that the tests of this folder share; they are made in `tests.helpers`."""

from tests.helpers.training_steps import data, joint_method, setting

__all__ = [
    "data",
    "joint_method",
    "setting",
]
