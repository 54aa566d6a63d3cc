"""The small CLIP that ships inside the package: loads it from package data, offline."""

import json
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.preprocessing import Preprocessing

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MERGES_FILE = "merges.txt.gz"

Tokenizer = Callable[[list[str]], Tensor]


def load_embedded(folder: Path | None = None) -> tuple[CLIP, Tokenizer, Preprocessing]:
    """Load the embedded model; needs no network and leaves open_clip's registries alone.

    Examples:
        >>> model, tokenizer, preprocessing = load_embedded()
        >>> model.encode_text(tokenizer(["a photo of a red circle."])).shape
        torch.Size([1, 128])

    Args:
        folder: Another folder in the same format, as `write_backbone` leaves it; ``None`` takes
            the one inside the package.

    Returns:
        The frozen model in evaluation mode (float32, CPU), its tokeniser (N texts to ids
        (N, 32), int64) and the preprocessing of its images (32 x 32).

    Raises:
        BackboneError: A file is missing or damaged.
    """
    try:
        if folder is not None:
            return _load(folder)
        with as_file(files("pfedmoap.models.clip") / "weights") as packaged:
            return _load(packaged)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise BackboneError(
            f"the embedded backbone cannot be read ({error}); install the package again, or "
            "write the files anew with scripts/pretrain_backbone.py"
        ) from error


def embedded_config() -> dict[str, Any]:  # Any: open_clip's own configuration, as JSON
    """Read the embedded model's configuration: both towers, and the preprocessing."""
    content = (files("pfedmoap.models.clip") / "weights" / CONFIG_FILE).read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(content)
    return config


def build(config: dict[str, Any]) -> CLIP:  # Any: open_clip's own configuration, as JSON
    """Build the model with random weights, from torch's global stream.

    Args:
        config: ``embed_dim``, ``vision_cfg`` and ``text_cfg`` as open_clip names them.

    Returns:
        An untrained model.
    """
    return CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


def read_tokenizer(merges: Path, context_length: int) -> SimpleTokenizer:
    """Open CLIP's tokeniser with the given merges instead of its own."""
    return SimpleTokenizer(bpe_path=str(merges), context_length=context_length)


def _load(folder: Path) -> tuple[CLIP, Tokenizer, Preprocessing]:
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    with torch.random.fork_rng(devices=[]):
        model = build(config)
    weights = load_file(folder / WEIGHTS_FILE)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    tokenizer = read_tokenizer(folder / MERGES_FILE, config["text_cfg"]["context_length"])
    images = config["preprocessing"]
    preprocessing = Preprocessing(
        size=images["size"], mean=tuple(images["mean"]), std=tuple(images["std"])
    )
    return model.eval().requires_grad_(False), tokenizer, preprocessing
