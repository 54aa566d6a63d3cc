"""A question that the tests of black boxes share."""

import pytest
import torch

from pfedmoap.models.blackbox.interface import Question, TextPrompt

torch.set_num_threads(1)  # tensors here are tiny; more threads only wait for each other

NAMES = ("cat", "a small dog", "boat")


@pytest.fixture
def words() -> TextPrompt:
    """Three classes in two templates."""
    return TextPrompt(NAMES, ("a photo of a {}.", "a drawing of a {}."))


@pytest.fixture
def vectors(clip) -> TextPrompt:
    """Three classes behind two context vectors."""
    return TextPrompt(NAMES, context=0.1 * torch.ones(2, clip.text_width))


@pytest.fixture
def question(words) -> Question:
    """Five random images."""
    return Question(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)), words)
