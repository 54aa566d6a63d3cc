"""The interface of a black-box model: a question in, logits and the cost of the answer out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pfedmoap.errors import BlackBoxError


@dataclass(frozen=True)
class TextPrompt:
    """The text side of a question; the same for all of its images.

    Attributes:
        class_names: C names in label order.
        templates: Sentences with one ``{}`` each; a class is the mean of their features. Used
            where there is no context.
        context: Context vectors in front of the class names, (L, W) float32; ``None`` asks with
            the templates.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...] = ()
    context: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.class_names or (self.context is None) != bool(self.templates):
            raise BlackBoxError(
                "a question needs class names, and either templates or a context, not both"
            )


@dataclass(frozen=True)
class Question:
    """Everything that a client sends to the owner of the model.

    It has no labels: the client computes the loss.

    Attributes:
        images: Preprocessed and perhaps prompted images, (B, 3, S, S) float32.
        text: What they are compared with.
    """

    images: Tensor
    text: TextPrompt


@dataclass(frozen=True)
class Usage:
    """The cost of answers.

    Attributes:
        queries: Images that were classified once; this is what a budget counts.
        calls: Requests.
        sent_bytes: Payload to the model.
        received_bytes: Payload back.
    """

    queries: int = 0
    calls: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.queries + other.queries,
            self.calls + other.calls,
            self.sent_bytes + other.sent_bytes,
            self.received_bytes + other.received_bytes,
        )


@dataclass(frozen=True)
class Answer:
    """A model's answer.

    Attributes:
        logits: (B, C) float32 on the CPU, without a gradient.
        usage: Its cost, including failed requests.
    """

    logits: Tensor
    usage: Usage


class BlackBoxModel(Protocol):
    """A classifier of images by text, reachable only through questions and answers."""

    def ask(self, question: Question) -> Answer:
        """Classify each image on its own.

        Raises:
            BlackBoxError: The question is malformed, or there is no answer.
        """
        ...


@runtime_checkable
class SlicedModel(BlackBoxModel, Protocol):
    """A black-box model whose work on one question can be ended before it is done."""

    def ask_in_slices(self, question: Question, proceed: Callable[[], None]) -> Answer:
        """Answer like `ask`, but for the rounding of smaller batches.

        Args:
            question: The question.
            proceed: Called before each slice of the work, of images and of texts; may raise.

        Raises:
            BlackBoxError: The question is malformed, or there is no answer.
        """
        ...


def ask_in_parts(model: BlackBoxModel, question: Question, at_most: int) -> Answer:
    """Query any number of images, ``at_most`` at a time.

    Args:
        model: The model.
        question: The whole question, (B, 3, S, S).
        at_most: Images in a call.

    Returns:
        One answer for all, (B, C), with the total cost.
    """
    parts = question.images.split(at_most)
    answers = [model.ask(Question(part, question.text)) for part in parts]
    usage = sum((answer.usage for answer in answers), Usage())
    return Answer(torch.cat([answer.logits for answer in answers]), usage)
