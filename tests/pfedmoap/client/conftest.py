"""Fixtures of this folder; they are made in `tests.helpers`."""

from tests.helpers.training_steps import data, setting

__all__ = ["data", "setting"]
