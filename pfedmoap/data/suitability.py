"""Tell of data that will disappoint: photographs for the embedded model, a class or image alone."""

import logging
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.feature_job import FeatureExtractor
from pfedmoap.models.clip.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"  # the model's name
NAMED = 5  # classes
SAMPLED = 8  # images, evenly spaced


def warn_of_photographs(dataset: ImageDataset, backbone: FeatureExtractor) -> None:
    """Warn where the embedded model is to encode a data set that it was not made for.

    Args:
        dataset: The images; a few are looked at.
        backbone: What will encode them.
    """
    name = getattr(backbone, "name", None)
    if name != EMBEDDED:
        return
    places = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED).astype(np.int64))
    try:
        images = [dataset.load(int(place)) for place in places]
    except OSError:  # whoever encodes it says so
        return
    found = [image for image in images if isinstance(image, Image.Image)]
    warn_of_large_images(found, f"{dataset.name} holds images", name, backbone.preprocessing)


def warn_of_few(dataset: ImageDataset) -> None:
    """Warn of data in which there is nothing to tell apart, or of which a part is never tested.

    Args:
        dataset: The images.
    """
    names = dataset.class_names
    if len(names) == 1:
        logger.warning(
            "%s has one class alone (%s), so that every answer is right; with --data "
            "folder, name the folder whose folders are the classes",
            dataset.name,
            names[0],
        )
        return
    counts = np.bincount(dataset.labels, minlength=len(names))
    if single := [name for name, count in zip(names, counts, strict=True) if count == 1]:
        more = ", ..." if len(single) > NAMED else ""
        logger.warning(
            "%s has one image alone of %d of its %d classes (%s%s), which cannot be both trained "
            "on and tested with: give such a class more images, or leave it out",
            dataset.name,
            len(single),
            len(names),
            ", ".join(single[:NAMED]),
            more,
        )


def warn_of_large_images(
    images: Sequence[Image.Image], whose: str, backbone: str, preprocessing: Preprocessing
) -> bool:
    """Warn where the embedded model is to encode images that it was not made for.

    It reads 32 x 32 pixels and was trained on rendered scenes and digits. Images whose shorter
    side is more than twice that, for most of them, are taken for photographs.

    Args:
        images: Some or all of the images.
        whose: Where they are: ``album holds images``.
        backbone: The name of what will encode them.
        preprocessing: Its preprocessing.

    Returns:
        Whether a warning was given.
    """
    reads = preprocessing.size
    if backbone != EMBEDDED or not images:
        return False
    side = float(np.median([min(image.size) for image in images]))
    if side <= 2 * reads:
        return False
    logger.warning(
        "%s as large as photographs (the shorter side has %d pixels), and the embedded model is no "
        "model of photographs: it reads %d x %d pixels and knows rendered scenes and digits. Its "
        "answers say little; train with a real CLIP, such as --backbone.model ViT-B-16 "
        "--backbone.pretrained openai, or one on this machine with local-dir:/path",
        whose,
        int(side),
        reads,
        reads,
    )
    return True
