"""Encode questions with a language model, and check that data and backbone fit."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.language.question import Question


def check_modality(dataset: ImageDataset, backbone: object) -> None:
    """Refuse questions for a CLIP, and images for a language model.

    Args:
        dataset: The data set; its first item is loaded.
        backbone: The frozen model.

    Raises:
        BackboneError: They do not fit; the message says what does.
    """
    asks, reads = isinstance(dataset.load(0), Question), isinstance(backbone, FrozenLM)
    if asks and not reads:
        raise BackboneError(
            f"data set {dataset.name!r} holds questions, and a CLIP cannot read them: use a "
            "language model with --backbone.model lm:NAME_OR_FOLDER and --method fedsp, or images"
        )
    if reads and not asks:
        raise BackboneError(
            f"data set {dataset.name!r} holds images, and a language model cannot see them: use "
            "questions with --data questions --data.path FILE.jsonl, or a CLIP as the backbone"
        )


def question_features(
    dataset: ImageDataset, backbone: FrozenLM, kinds: Sequence[str], views: int
) -> dict[str, NDArray[Any]]:
    """Encode every question of a data set.

    Args:
        dataset: n questions.
        backbone: The language model.
        kinds: Kinds of features that the method needs.
        views: Augmented views; questions have none.

    Returns:
        By kind, (n, 1, C, T): whole numbers and truth values.

    Raises:
        BackboneError: A kind is not a language model's.
        ConfigError: An option is one for images.
        DataError: A question is too long for the model.
    """
    backbone.require_features(kinds)
    if views:
        raise ConfigError(f"features.views is {views}, but questions have no augmented views")
    questions = [dataset.load(i) for i in range(len(dataset))]
    choices = len(dataset.class_names)
    if max(len(question.choices) for question in questions) > choices:
        raise ConfigError(
            "sampling.classes is for classes of images: the choices of a question cannot be halved"
        )
    encoded = backbone.encode(questions, choices)
    return {kind: encoded[kind][:, None].numpy() for kind in kinds}
