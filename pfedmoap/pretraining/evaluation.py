"""Zero-shot evaluation of the pretrained backbone, by style and by wording."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pfedmoap.data.dataset import ImageDataset, IntArray
from pfedmoap.data.scenes.captions import STYLE_PHRASES
from pfedmoap.data.scenes.reader import Scenes
from pfedmoap.data.scenes.render import render
from pfedmoap.data.scenes.sampling import in_style, sample
from pfedmoap.data.scenes.vocabulary import CLASSES, COLOURS, DIGIT_WORDS, SHAPES, STYLES, TEXTURES
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.pretraining.batches import to_pixels
from pfedmoap.seeding import numpy_generator

DIGIT_WORDINGS = ("the digit {}", "digit {}", "number {}", "handwritten {}", "{}")
"""Ways to name a digit, by figure and by word, that `digit_wordings` compares."""


@dataclass(frozen=True)
class StyleAccuracy:
    """Zero-shot accuracies in one style, on combinations that pretraining never showed.

    Attributes:
        style: The style.
        kind: Among all 58 classes.
        shape: Among the 32 shapes, on shapes.
        colour: Among the 12 colours, with a prompt that does not name the style.
        colour_named: The same with a prompt that names it; ``None`` where no caption ever did.
        texture: Among the 6 textures, on shapes.
        combination: Among the 24 classes of ``combos24``.
    """

    style: str
    kind: float
    shape: float
    colour: float
    colour_named: float | None
    texture: float
    combination: float


def zero_shot_by_style(clip: FrozenCLIP, images: int = 2000, seed: int = 0) -> list[StyleAccuracy]:
    """Classify held-out combinations by hand-written prompts in every style.

    Args:
        clip: The backbone.
        images: Scenes in each style, the same ones in all.
        seed: Seed of the scenes.

    Returns:
        One row a style, in the order of ``STYLES``.
    """
    kinds = [f"a {kind}" if kind in SHAPES else f"the {kind}" for kind in CLASSES]
    kind_text = clip.text_features([f"a photo of {kind}." for kind in kinds])
    colour_text = clip.text_features([f"a photo of a {colour} object." for colour in COLOURS])
    texture_text = clip.text_features([f"a photo of a {texture} shape." for texture in TEXTURES])
    scenes = sample(images, numpy_generator(seed, "evaluation", "what"), held_out_only=True)
    is_shape = scenes.kinds < len(SHAPES)
    rows = []
    for style in STYLES:
        pixels = to_pixels(
            render(in_style(scenes, style), numpy_generator(seed, "evaluation", "how"))
        )
        features = clip.image_features(pixels)
        named = None
        if style in STYLE_PHRASES:
            phrase = STYLE_PHRASES[style][0]
            texts = [f"{phrase} a {colour} object." for colour in COLOURS]
            named = accuracy_of(features, clip.text_features(texts), scenes.colours)
        shapes = features[torch.from_numpy(is_shape)]
        rows.append(
            StyleAccuracy(
                style=style,
                kind=accuracy_of(features, kind_text, scenes.kinds),
                shape=accuracy_of(shapes, kind_text[: len(SHAPES)], scenes.kinds[is_shape]),
                colour=accuracy_of(features, colour_text, scenes.colours),
                colour_named=named,
                texture=accuracy_of(shapes, texture_text, scenes.textures[is_shape]),
                combination=zero_shot(clip, Scenes(styles=(style,), train_per_cell=1).read()),
            )
        )
    return rows


def zero_shot(clip: FrozenCLIP, dataset: ImageDataset) -> float:
    """Accuracy of the data set's first template on its test images."""
    test = np.flatnonzero(dataset.is_test)
    texts = [dataset.templates[0].format(name) for name in dataset.class_names]
    features = encode_images(clip, dataset, test)
    return accuracy_of(features, clip.text_features(texts), dataset.labels[test])


def digit_wordings(clip: FrozenCLIP, digits: ImageDataset) -> dict[str, float]:
    """Compare ways to name digits, each in ``a photo of {}.``.

    Args:
        clip: The backbone.
        digits: A data set whose label ``i`` is the digit ``i``.

    Returns:
        Zero-shot accuracy on the test images by wording, with an example as the key.
    """
    test = np.flatnonzero(digits.is_test)
    features = encode_images(clip, digits, test)
    result = {}
    for wording in DIGIT_WORDINGS:
        for names in ([str(i) for i in range(10)], DIGIT_WORDS):
            texts = [f"a photo of {wording.format(name)}." for name in names]
            accuracy = accuracy_of(features, clip.text_features(texts), digits.labels[test])
            result[texts[3]] = accuracy
    return result


def encode_images(clip: FrozenCLIP, dataset: ImageDataset, indices: IntArray) -> Tensor:
    """Encode images ``indices`` (n,) of a data set to unit-norm features (n, D)."""
    images = [clip.preprocessing.centre(dataset.load(int(i))) for i in indices]
    return torch.cat([clip.image_features(chunk) for chunk in torch.stack(images).split(512)])


def accuracy_of(images: Tensor, texts: Tensor, labels: IntArray) -> float:
    """How often the nearest text (C, D) of an image (n, D) is that of its label (n,)."""
    return float(((images @ texts.T).argmax(-1).cpu().numpy() == labels).mean())
