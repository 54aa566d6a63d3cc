"""The backdoor's trigger: a coloured frame around an image.

A frame, and no patch in a corner, because the images are encoded by a frozen model and only a few
context vectors are trained: these learn to answer to a frame, and hardly to a small patch.
"""

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageDraw

from pfedmoap.config.schema import Config
from pfedmoap.contract.tasks import ClientData
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Federation, build_federation
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import ClientId

WIDTH = 0.1
"""Width of the frame as a share of the image's shorter side."""
COLOUR = (255, 0, 255)


def stamp(image: Image.Image) -> Image.Image:
    """Return a copy of an image with the frame drawn over its edges."""
    stamped = image.convert("RGB")
    right, bottom = stamped.width - 1, stamped.height - 1
    width = max(1, round(WIDTH * min(stamped.size)))
    ImageDraw.Draw(stamped).rectangle((0, 0, right, bottom), outline=COLOUR, width=width)
    return stamped


@dataclass(frozen=True)
class _Stamped:
    load: Any  # a loader of images

    def __call__(self, index: int) -> Image.Image:
        return stamp(self.load(index))


def triggered_data(
    dataset: ImageDataset, config: Config, backbone: FrozenCLIP, kinds: tuple[str, ...]
) -> Federation:
    """Make the same federation from the same images, each with the trigger on it.

    Args:
        dataset: The data set.
        config: The configuration that it is shared out by.
        backbone: What encodes the images.
        kinds: Kinds of features.
    """
    mark = f"{dataset.fingerprint} in a frame of {WIDTH} {COLOUR}"
    stamped = replace(dataset, load=_Stamped(dataset.load), fingerprint=mark)
    return build_federation(
        stamped,
        config.build("partition"),
        backbone,
        kinds,
        sampling=config.build("sampling"),
        seeds=config.build("seeds"),
        features=config.build("features"),
        progress=False,
    )


def to_be_fooled(
    triggered: Federation, victims: frozenset[ClientId], target: int
) -> dict[ClientId, ClientData]:
    """Select the honest clients' triggered test images that are not of the target class.

    Args:
        triggered: The federation with triggers on all images.
        victims: The honest clients.
        target: The class that they are to be taken for.

    Returns:
        The images of those victims that have some, by client.
    """
    kept: dict[ClientId, ClientData] = {}
    for client in sorted(victims):
        test = triggered.clients[client].test
        others = test.labels != target
        if bool(others.any()):
            features = {kind: f[others] for kind, f in test.features.items()}
            kept[client] = ClientData(features, test.labels[others])
    return kept
