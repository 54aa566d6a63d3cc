"""Pretrain the embedded backbone: first the image tower on labels, then both on captions."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pfedmoap.data.scenes.render import SIZE
from pfedmoap.models.clip.embedded import build
from pfedmoap.pretraining.batches import MEAN, STD, SceneBatch, caption_tokens, scene_batches
from pfedmoap.pretraining.losses import HEADS, contrastive_loss, label_loss
from pfedmoap.pretraining.optimiser import MasterWeights
from pfedmoap.seeding import derive_seed, numpy_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainingOptions:
    """How long and how to pretrain.

    Attributes:
        label_steps: Steps of the first stage: images and labels, vision tower only.
        caption_steps: Steps of the second stage: images and captions, both towers.
        label_batch: Images a step of the first stage.
        caption_batch: Pairs a step of the second stage.
        learning_rate: Peak of both stages.
        low_precision: Compute in bfloat16 beside float32 master weights.
        seed: Seed of initial weights, scenes and captions.
    """

    label_steps: int = 4500
    caption_steps: int = 1800
    label_batch: int = 128
    caption_batch: int = 256
    learning_rate: float = 1e-3
    low_precision: bool = True
    seed: int = 0


def backbone_config(vocab_size: int) -> dict[str, Any]:
    """The architecture: open_clip's keys, and the preprocessing of images beside them."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": SIZE,
            "patch_size": 8,
            "width": 128,
            "layers": 4,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
        "preprocessing": {"size": SIZE, "mean": [MEAN] * 3, "std": [STD] * 3},
    }


def pretrain(
    config: dict[str, Any],
    tokenizer: SimpleTokenizer,
    options: PretrainingOptions,
    device: torch.device,
) -> CLIP:
    """Train a CLIP from scratch on rendered scenes.

    The result is a function of the options on one kind of machine; other processors round
    differently.

    Args:
        config: As `backbone_config` gives it.
        tokenizer: The reduced tokeniser.
        options: How long and how.
        device: Where to compute.

    Returns:
        The trained model, float32, on ``device``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(options.seed, "weights"))
        model = build(config).to(device)
        students = [_Student(model, config["embed_dim"]).to(device) for _ in range(2)]
    # Flash attention's CPU backward is slow on short sequences.
    with sdpa_kernel(SDPBackend.MATH):
        _learn_labels(students[0], options, device)
        _learn_captions(students[1], tokenizer, options, device)
    return model


class _Student(nn.Module):
    """The model, and classifiers of each attribute that are thrown away after their stage."""

    def __init__(self, clip: CLIP, width: int) -> None:
        super().__init__()
        self.clip = clip
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, (_, n) in HEADS.items()})


def _learn_labels(student: _Student, options: PretrainingOptions, device: torch.device) -> None:
    rng = numpy_generator(options.seed, "label stage")
    weights = MasterWeights(
        student, options.learning_rate, weight_decay=0.02, low_precision=options.low_precision
    )
    worker = weights.working
    batches: list[SceneBatch] = []
    for step in range(options.label_steps):
        progress = step / options.label_steps
        if not batches:
            difficulty = min(1.0, progress / 0.6)
            batches = scene_batches(options.label_batch, rng, difficulty=difficulty, shared=0)
        batch = batches.pop()
        features = worker.clip.visual(batch.pixels.to(device, weights.dtype))
        loss, accuracy = label_loss(worker.heads, features, batch.attributes)
        decay = min(1.0, (1 - progress) / 0.3)
        weights.step(loss, rate=min(1.0, (step + 1) / 100) * (0.1 + 0.9 * decay))
        if step % 100 == 99:
            logger.info("labels %d: loss %.3f, class %.3f", step + 1, loss.item(), accuracy)


def _learn_captions(
    student: _Student,
    tokenizer: SimpleTokenizer,
    options: PretrainingOptions,
    device: torch.device,
) -> None:
    rng = numpy_generator(options.seed, "caption stage")
    weights = MasterWeights(
        student, options.learning_rate, weight_decay=0.05, low_precision=options.low_precision
    )
    worker, clip, log_scale = weights.working, weights.working.clip, student.clip.logit_scale
    batches: list[SceneBatch] = []
    for step in range(options.caption_steps):
        if not batches:
            batches = scene_batches(options.caption_batch, rng, difficulty=1.0, shared=0.3)
        batch = batches.pop()
        tokens = caption_tokens(batch.attributes, tokenizer, rng).to(device)
        image = clip.visual(batch.pixels.to(device, weights.dtype))
        text = encode_short_text(clip, tokens)
        contrast, accuracy = contrastive_loss(image, text, clip.logit_scale, tokens)
        labels, _ = label_loss(worker.heads, image, batch.attributes)
        progress = step / options.caption_steps
        warm = min(1.0, (step + 1) / 150)
        weights.step(contrast + 0.5 * labels, rate=warm * (1 + math.cos(math.pi * progress)) / 2)
        with torch.no_grad():
            log_scale.clamp_(max=math.log(100))
        if step % 50 == 49:
            figures = (contrast.item(), accuracy, log_scale.exp().item())
            logger.info("captions %d: contrast %.3f, top-1 %.3f, scale %.1f", step + 1, *figures)


def encode_short_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Encode texts that were padded only to their longest, not to the full context.

    Args:
        model: The model, T <= its context length.
        tokens: Token ids (n, T).

    Returns:
        Text features (n, D), as ``model.encode_text`` gives for the same texts in full length.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    ends = model.ln_final(x[torch.arange(len(tokens)), tokens.argmax(-1)])
    features: Tensor = ends @ model.text_projection
    return features
