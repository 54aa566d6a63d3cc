"""A client's personal model, loaded from a run, for use from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pfedmoap.client.local_training import Training
from pfedmoap.config.sampling import Seeds
from pfedmoap.config.schema import Schema
from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Setting
from pfedmoap.data.images import ImageSource, decode
from pfedmoap.errors import DataError, RunError
from pfedmoap.methods.registry import Methods
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import Arrays, ClientId, Download

_NEEDED = ("backbone", "training", "seeds", "method")  # of a run's configuration
_SINCE = ("server", "pool")  # what runs of earlier versions lack


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


class PersonalizedClassifier:
    """Classifies images with what one client has learned.

    Args:
        backbone: The frozen model.
        method: The method that trained the client.
        class_names: In label order.
        download: What the server would send this client now.
        local: What the client kept; ``None`` for one that never took part.
    """

    def __init__(
        self,
        backbone: FrozenCLIP,
        method: AnyMethod,
        class_names: Sequence[str],
        download: Download,
        local: Arrays | None,
    ) -> None:
        self.class_names = tuple(class_names)
        self._backbone, self._method = backbone, method
        self._download, self._local = download, local

    @classmethod
    def load(cls, run: str | Path, client: int, device: str = "auto") -> "PersonalizedClassifier":
        """Load a client from a run directory; the training data are not needed.

        Args:
            run: The run directory.
            client: Which client.
            device: Where to run; ``auto`` takes CUDA where present.

        Returns:
            The classifier.

        Raises:
            RunError: The run is damaged, not complete, or has no such client.
        """
        directory = RunDirectory(run)
        task = directory.task
        known = [entry["client"] for entry in task["clients"]]
        if client not in known:
            raise RunError(f"{run} has no client {client}; it has {known[0]} to {known[-1]}")
        sections = directory.config
        sections["backbone"]["device"] = device
        given = [name for name in (*_NEEDED, *_SINCE) if name in _NEEDED or name in sections]
        config = _schema().resolve({name: sections[name] for name in given})
        backbone: FrozenCLIP = config.build("backbone").load()
        if backbone.fingerprint != task["backbone"]:
            raise RunError(
                f"{run} was trained with other weights of {backbone.name} than those that are "
                "loaded now; its prompts mean nothing to them. Load the weights it was trained with"
            )
        setting = Setting(
            backbone,
            tuple(task["class_names"]),
            config.build("training"),
            tuple(task["templates"]),
            config.build("seeds").training,
            server=config.build("server"),
            pool=config.build("pool"),
        )
        method: AnyMethod = config.build("method", setting=setting)
        state = method.from_arrays(directory.load_server())
        download = method.plan(state, [ClientId(client)], directory.round + 1)[0]
        local = directory.load_client(ClientId(client))
        return cls(backbone, method, task["class_names"], download, local)

    def classify(self, images: Sequence[ImageSource] | NDArray[np.uint8]) -> list[Answer]:
        """Classify images, decoded as those that were trained on.

        Args:
            images: Paths, files' contents, PIL images of any mode or arrays; see
                `pfedmoap.data.images.decode`. Also one array of images, (N, H, W, 3).

        Returns:
            One answer for each.

        Raises:
            DataError: One cannot be decoded, or there is none.
        """
        single = isinstance(images, str | bytes | Path | Image.Image)
        if single or (isinstance(images, np.ndarray) and images.ndim < 4) or not len(images):
            raise DataError("classify takes a list of images, one or more: put [ ] around an image")
        pixels = [self._backbone.preprocessing.centre(decode(image)) for image in images]
        features = self._backbone.features(torch.stack(pixels), self._method.features)
        prediction = self._method.predict(self._download, self._local, features)
        probabilities = prediction.logits.softmax(-1).cpu()
        who = ["own", *(f"client {expert}" for expert in prediction.experts)]
        answers = []
        for row, chances in enumerate(probabilities):
            order = chances.argsort(descending=True).tolist()
            attention = None
            if prediction.attention is not None:
                weights = prediction.attention[row, order[0]].tolist()
                pairs = zip(who, weights, strict=True)
                attention = tuple(sorted(pairs, key=lambda pair: -pair[1]))
            ranking = tuple((self.class_names[i], float(chances[i])) for i in order)
            answers.append(Answer(ranking, attention))
        return answers


@cache
def _schema() -> Schema:
    return Schema(
        fixed={
            "backbone": BackboneOptions,
            "training": Training,
            "seeds": Seeds,
            "server": ServerOptions,
            "pool": PoolOptions,
        },
        choices={"method": Methods()},
        defaults={},
    )
