"""A black-box model in this process: the backbone, always without gradients."""

from collections.abc import Callable

import torch

from pfedmoap.errors import BlackBoxError, PFedMoAPError
from pfedmoap.models.blackbox.interface import Answer, Question, Usage
from pfedmoap.models.blackbox.white_box import WhiteBoxModel
from pfedmoap.models.clip.clip import FrozenCLIP


class InProcessModel:
    """Answers queries with a `FrozenCLIP` in inference mode, so that no graph leaves it.

    Args:
        backbone: The model.

    Examples:
        >>> from pfedmoap.models.blackbox.interface import TextPrompt
        >>> model = InProcessModel(FrozenCLIP.embedded())
        >>> text = TextPrompt(("a cat", "a dog", "a car"), ("a photo of {}.",))
        >>> answer = model.ask(Question(torch.zeros(2, 3, 32, 32), text))
        >>> tuple(answer.logits.shape), answer.usage.queries
        ((2, 3), 2)
    """

    def __init__(self, backbone: FrozenCLIP) -> None:
        self._size = backbone.preprocessing.size
        self._model = WhiteBoxModel(backbone)

    def ask(self, question: Question) -> Answer:
        """Classify; see `BlackBoxModel.ask`.

        The images cost B queries and one call; bytes are those of the tensors.
        """
        return self._answer(question, None)

    def ask_in_slices(self, question: Question, proceed: Callable[[], None]) -> Answer:
        """Classify in slices; see `SlicedModel.ask_in_slices`."""
        return self._answer(question, proceed)

    def _answer(self, question: Question, proceed: Callable[[], None] | None) -> Answer:
        images, context = question.images, question.text.context
        expected = (3, self._size, self._size)
        if images.dim() != 4 or len(images) == 0 or images.shape[1:] != expected:
            raise BlackBoxError(
                f"images have shape {tuple(images.shape)}, expected (B, {expected})"
            )
        try:
            with torch.inference_mode():
                found = self._model.logits(question, proceed)
        except PFedMoAPError as error:
            raise BlackBoxError(f"the model cannot answer: {error}") from error
        logits = found.float().cpu().clone()  # outside inference mode: an ordinary tensor
        sent = images.nbytes + (0 if context is None else context.nbytes)
        return Answer(logits, Usage(len(logits), 1, sent, logits.nbytes))
