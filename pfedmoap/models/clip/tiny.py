"""A small CLIP with random weights, for checks that need no trained model."""

import open_clip
import torch

from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.preprocessing import Preprocessing


def tiny_clip(
    vision: str = "vit", width: int = 32, seed: int = 0, device: str | torch.device = "cpu"
) -> FrozenCLIP:
    """Build a random open_clip model with an embedding width of 128; nothing is downloaded.

    Args:
        vision: Its image tower, ``vit`` or ``resnet``.
        width: Width W of its text tower.
        seed: Seed of its weights; torch's own random state stays as it was.
        device: Where to put it; the weights are the same everywhere.
    """
    towers = {
        "vit": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        "resnet": {"image_size": 32, "patch_size": None, "width": 8, "layers": [1, 1, 1, 1]},
    }
    text = {"context_length": 40, "vocab_size": 49408, "width": width, "heads": 4, "layers": 3}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(128, towers[vision], text)
        torch.nn.init.normal_(model.positional_embedding, std=0.3)  # positions must matter
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    model.to(device)
    return FrozenCLIP(model, open_clip.SimpleTokenizer(context_length=40), preprocessing, "tiny")
