"""Tell whoever gives photographs to the embedded model that it is no model of photographs."""

import logging

import numpy as np
from PIL import Image

from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.feature_job import FeatureExtractor

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"  # the model's name
SAMPLED = 8  # images, evenly spaced


def warn_of_photographs(dataset: ImageDataset, backbone: FeatureExtractor) -> None:
    """Warn where the embedded model is to encode images that it was not made for.

    It reads 32 x 32 pixels and was trained on rendered scenes and digits. Images whose shorter
    side is more than twice that, for most of a few that are looked at, are taken for photographs.

    Args:
        dataset: The images.
        backbone: What will encode them.
    """
    if getattr(backbone, "name", None) != EMBEDDED:
        return
    places = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED).astype(np.int64))
    try:
        images = [dataset.load(int(place)) for place in places]
    except OSError:  # whoever encodes it says so
        return
    reads = backbone.preprocessing.size
    sides = [min(image.size) for image in images if isinstance(image, Image.Image)]
    if not sides or float(np.median(sides)) <= 2 * reads:
        return
    logger.warning(
        "%s holds photographs (the shorter side has %d pixels), and the embedded model is no model "
        "of photographs: it reads %d x %d pixels and knows rendered scenes and digits. Its "
        "accuracies say little; take a real CLIP, such as --backbone.model ViT-B-16 "
        "--backbone.pretrained openai, or one on this machine with local-dir:/path",
        dataset.name,
        int(np.median(sides)),
        reads,
        reads,
    )
