"""Measure what prompt learning adds to the pretrained backbone's zero-shot accuracy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from pfedmoap.data.dataset import DatasetReader, ImageDataset, IntArray
from pfedmoap.data.digits import Digits
from pfedmoap.data.scenes.reader import Grid, Scenes
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.pretraining.evaluation import accuracy_of, encode_images, zero_shot
from pfedmoap.prompts.initial import initial_context
from pfedmoap.seeding import generator, numpy_generator

LEARNING_RATES = (0.02, 0.1, 0.5)
"""Every one of them is shown: there is no separate data to choose one on."""

_STARTS = ((4, "a photo of a"), (4, None), (16, None))
_TASKS: tuple[tuple[Grid, str], ...] = (
    ("combos24", "negative"),
    ("combos24", "solar"),
    ("combos24", "thermal"),
    ("confus40", "photo"),
    ("confus40", "blurry"),
    ("shapes32", "neon"),
)


@dataclass(frozen=True)
class Headroom:
    """Test accuracies on one task.

    Attributes:
        task: Grid and style, or ``digits``.
        zero_shot: With the data set's template.
        shots: Training images of each class.
        start: What the context starts from.
        tuned: With a trained prompt, one for each of `LEARNING_RATES`.
    """

    task: str
    zero_shot: float
    shots: int
    start: str
    tuned: tuple[float, ...]


def headroom(clip: FrozenCLIP, seed: int = 0) -> Iterator[Headroom]:
    """Train prompts on real digits and on scenes, with 4 and 16 shots.

    Args:
        clip: The backbone.
        seed: Seed of pictures, few-shot choice, start and order.

    Yields:
        One row a task, number of shots and start.
    """
    tasks: dict[str, DatasetReader] = {"digits": Digits()}
    tasks |= {f"{grid} {style}": Scenes(grid, (style,), seed=seed) for grid, style in _TASKS}
    for name, reader in tasks.items():
        dataset = reader.read()
        plain = zero_shot(clip, dataset)
        for shots in (4, 16):
            for length, words in _STARTS:
                tuned = tuned_prompt(
                    clip,
                    dataset,
                    shots=shots,
                    context_length=length,
                    learning_rates=LEARNING_RATES,
                    words=words,
                    seed=seed,
                )
                yield Headroom(name, plain, shots, words or f"{length} random", tuple(tuned))


def tuned_prompt(
    clip: FrozenCLIP,
    dataset: ImageDataset,
    *,
    shots: int,
    context_length: int,
    learning_rates: Sequence[float],
    words: str | None = None,
    epochs: int = 30,
    seed: int = 0,
) -> list[float]:
    """Train CoOp prompts (arXiv 2109.01134) on frozen features, one for each learning rate.

    SGD with momentum 0.9, batches of 64, cosine decay to zero, no augmentation.

    Args:
        clip: The backbone.
        dataset: Trained on ``shots`` images of each class (and domain, where there are some).
        shots: Training images of each cell.
        context_length: Number of context vectors.
        learning_rates: Peak rates to try.
        words: Words to start the context from; ``None`` starts from noise.
        epochs: Passes over the training images.
        seed: Seed of choice, start and order.

    Returns:
        Test accuracy for each learning rate.
    """
    train = _few(dataset, shots, seed)
    test = np.flatnonzero(dataset.is_test)
    images, labels = encode_images(clip, dataset, train), torch.from_numpy(dataset.labels[train])
    held_back = encode_images(clip, dataset, test)
    encode = clip.prompt_encoder(dataset.class_names, context_length)
    result = []
    for rate in learning_rates:
        context = initial_context(clip, context_length, words, seed=seed).requires_grad_()
        optimiser = torch.optim.SGD([context], lr=rate, momentum=0.9)
        steps = epochs * -(-len(train) // 64)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = generator(seed, "order")
        for _ in range(epochs):
            for rows in torch.randperm(len(train), generator=order).split(64):
                text = encode(context[None])[0]
                loss = F.cross_entropy(clip.logit_scale * images[rows] @ text.T, labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            text = encode(context[None])[0]
        result.append(accuracy_of(held_back, text, dataset.labels[test]))
    return result


def _few(dataset: ImageDataset, shots: int, seed: int) -> IntArray:
    rng = numpy_generator(seed, "few shots")
    domains = np.zeros_like(dataset.labels) if dataset.domains is None else dataset.domains
    cells = domains * len(dataset.class_names) + dataset.labels
    order = rng.permutation(np.flatnonzero(~dataset.is_test))
    return np.concatenate([order[cells[order] == cell][:shots] for cell in np.unique(cells)])
