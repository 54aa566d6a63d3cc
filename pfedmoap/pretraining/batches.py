"""Batches for pretraining: scenes as tensors, captions as token ids behind random filler."""

from dataclasses import dataclass

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from pfedmoap.data.scenes.captions import FILLER, captions
from pfedmoap.data.scenes.render import render
from pfedmoap.data.scenes.sampling import Attributes, concatenate, sample

MEAN, STD = 0.5, 0.28
"""Normalisation of all three channels."""

POOL = 1024
"""Scenes drawn at once: numpy is fastest on large arrays."""


@dataclass(frozen=True)
class SceneBatch:
    """Scenes ready for training.

    Attributes:
        attributes: What the ``n`` scenes show.
        pixels: Normalised images, float32 (n, 3, 32, 32).
    """

    attributes: Attributes
    pixels: Tensor


def scene_batches(
    batch_size: int, rng: np.random.Generator, *, difficulty: float, shared: float
) -> list[SceneBatch]:
    """Render one pool of scenes and cut it into batches.

    Args:
        batch_size: Scenes in a batch.
        rng: The random stream to draw from.
        difficulty: See `sample`.
        shared: See `sample`; applies to each batch by itself.

    Returns:
        About ``POOL / batch_size`` batches, at least one.
    """
    parts = [
        sample(batch_size, rng, difficulty=difficulty, shared=shared)
        for _ in range(max(1, POOL // batch_size))
    ]
    pixels = to_pixels(render(concatenate(parts), rng, vigour=0.3 + 0.7 * difficulty))
    return [
        SceneBatch(part, chunk) for part, chunk in zip(parts, pixels.split(batch_size), strict=True)
    ]


def to_pixels(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """Normalise images (n, 32, 32, 3) of uint8 to float32 (n, 3, 32, 32)."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return ((scaled - MEAN) / STD).contiguous()


def caption_tokens(
    attributes: Attributes, tokenizer: SimpleTokenizer, rng: np.random.Generator
) -> Tensor:
    """Write and tokenise one caption a scene; in most batches, behind filler words.

    Learned prompts put up to 16 context vectors before a class name. The filler moves captions
    to those later positions, and trains the text tower to ignore meaningless words.

    Args:
        attributes: The scenes, ``n`` of them.
        tokenizer: The reduced tokeniser.
        rng: The random stream to draw from.

    Returns:
        Token ids (n, T) padded with 0, where T is the longest caption of the batch.
    """
    room = tokenizer.context_length - 2
    filler = [tokenizer.encode(word)[0] for word in FILLER]
    # One reach for all: a batch costs as much as its longest row.
    reach = int(rng.choice([0, 8, 18], p=[0.4, 0.3, 0.3]))
    rows = []
    for caption in captions(attributes, rng):
        ids = tokenizer.encode(caption)[:room]
        count = rng.integers(min(reach, room - len(ids)) + 1)
        ids = [filler[j] for j in rng.integers(len(filler), size=count)] + ids
        rows.append([tokenizer.sot_token_id, *ids, tokenizer.eot_token_id])
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens
