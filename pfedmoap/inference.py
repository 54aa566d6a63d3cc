"""A client's personal model, loaded from a run or from a folder of its own, for use from Python."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pfedmoap.contract.tasks import Prediction
from pfedmoap.data.images import ImageSource, decode
from pfedmoap.data.suitability import warn_of_large_images
from pfedmoap.errors import DataError, RunError
from pfedmoap.exported.folder import is_exported, read_model
from pfedmoap.exported.hub import HUB, fetch
from pfedmoap.exported.of_run import personal_model
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.loading import resolve_device

IMAGES_AT_ONCE = 64
"""Images that are decoded and encoded at a time, if nothing else is asked for."""


@dataclass(frozen=True)
class Answer:
    """A model's answer for one image.

    Attributes:
        ranking: Class names with their probabilities, the most probable first.
        attention: Whose prompts the gate weighs how much for the best class, the heaviest first:
            ``own`` or ``client 7``. ``None`` where no gate is in use.
    """

    ranking: tuple[tuple[str, float], ...]
    attention: tuple[tuple[str, float], ...] | None


class ImageModel(Protocol):
    """Whatever classifies preprocessed images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its images."""
        ...

    @property
    def backbone_name(self) -> str:
        """Of the frozen model."""
        ...

    def predict(self, pixels: Tensor) -> Prediction:
        """Classify preprocessed images, (B, 3, S, S)."""
        ...


class PersonalizedClassifier:
    """Classifies images with what one client has learned.

    Args:
        model: The client's model.

    Attributes:
        class_names: In label order.
    """

    def __init__(self, model: ImageModel) -> None:
        self.class_names = tuple(model.class_names)
        self._model = model
        self._warned = False  # of images that the backbone was not made for

    @classmethod
    def load(
        cls, source: str | Path, client: int | None = None, device: str = "auto"
    ) -> "PersonalizedClassifier":
        """Load a client's model; neither needs the training data.

        Args:
            source: A run directory; or the folder of an exported model (``pfedmoap export``), which
                needs neither the run nor a text tower; or ``hf-hub:user/repo`` (with ``@revision``
                behind it, if any) for one on the Hugging Face Hub, which is fetched.
            client: Which client of a run; ``None`` for an exported model, which is of one.
            device: Where to run; ``auto`` takes CUDA where present.

        Returns:
            The classifier.

        Raises:
            RunError: The run is damaged, not complete, or has no such client; or the model is
                damaged, or of a later version.
            StorageError: The Hub cannot be reached, or has no such model.
        """
        exported = isinstance(source, str) and source.startswith(HUB)
        folder = fetch(str(source)) if exported else Path(source)
        if exported or is_exported(folder):
            if client is not None:
                raise RunError(
                    f"{source} is an exported model, which is of one client; leave the client out"
                )
            return cls(read_model(folder).model(resolve_device(device)))
        if not folder.exists():
            raise RunError(
                f"{source} does not exist; name a run directory and one of its clients (client=3, "
                "--client 3), a folder that `pfedmoap export` wrote, or hf-hub:user/repo"
            )
        if client is None:
            raise RunError(
                f"say which client: if {source} is a run, its clients have models of their own "
                "(client=3, --client 3); it is no folder that `pfedmoap export` wrote"
            )
        return cls(personal_model(source, client, device))

    def classify(
        self, images: Sequence[ImageSource] | NDArray[np.uint8], batch_size: int = IMAGES_AT_ONCE
    ) -> list[Answer]:
        """Classify images, decoded as those that were trained on.

        Where the embedded model is first given photographs, a warning says that it knows none.

        Args:
            images: Paths, files' contents, PIL images of any mode or arrays; see
                `pfedmoap.data.images.decode`. Also one array of images, (N, H, W, 3).
            batch_size: Images that are decoded and encoded at a time.

        Returns:
            One answer for each.

        Raises:
            DataError: One cannot be decoded, or there is none.
        """
        single = isinstance(images, str | bytes | Path | Image.Image)
        if single or (isinstance(images, np.ndarray) and images.ndim < 4) or not len(images):
            raise DataError("classify takes a list of images, one or more: put [ ] around an image")
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        starts = range(0, len(images), batch_size)
        return [
            answer
            for start in starts
            for answer in self._answers(images[start : start + batch_size])
        ]

    def _answers(self, images: Sequence[ImageSource] | NDArray[np.uint8]) -> Iterator[Answer]:
        decoded = [decode(image) for image in images]
        model, sees = self._model, self._model.preprocessing
        if not self._warned:
            self._warned = warn_of_large_images(
                decoded, "these are images", model.backbone_name, sees
            )
        pixels = [sees.centre(image) for image in decoded]
        prediction = self._model.predict(torch.stack(pixels))
        probabilities = prediction.logits.softmax(-1).cpu()
        who = ["own", *(f"client {expert}" for expert in prediction.experts)]
        for row, chances in enumerate(probabilities):
            order = chances.argsort(descending=True).tolist()
            attention = None
            if prediction.attention is not None:
                weights = prediction.attention[row, order[0]].tolist()
                pairs = zip(who, weights, strict=True)
                attention = tuple(sorted(pairs, key=lambda pair: -pair[1]))
            ranking = tuple((self.class_names[i], float(chances[i])) for i in order)
            yield Answer(ranking, attention)
