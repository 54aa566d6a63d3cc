"""One multiple-choice question, as a language model reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A multiple-choice question for a language model.

    Attributes:
        prompt: What stands before the answer.
        choices: At least two answers, of which one is right.
    """

    prompt: str
    choices: tuple[str, ...]
