"""Writes a pretrained backbone: half-precision weights, configuration, reduced merges."""

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import save

from pfedmoap.errors import RunError
from pfedmoap.models.clip.embedded import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE, read_tokenizer
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.own_files import refuse_link

_MERGES_HEAD = "#version: reduced"
COMMON_MERGES = 512
"""CLIP's most frequent merges, kept besides those of our own words to shorten unknown words."""


def write_merges(folder: Path, words: Sequence[str], context_length: int) -> SimpleTokenizer:
    """Write the part of CLIP's merges that segments the given words exactly as CLIP does.

    Byte-pair encoding applies the merge of lowest rank first; all merges that it applies to
    ``words`` are kept, in their order, so those words come out as in the full tokeniser. Other
    text falls back to shorter pieces, at worst to bytes.

    Args:
        folder: Where to write; made if absent.
        words: The words to keep whole.
        context_length: Number of positions of the text tower.

    Returns:
        The reduced tokeniser.

    Raises:
        RunError: The folder holds another model's files.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    used = set(range(COMMON_MERGES))
    for word in words:
        used |= _applied(word, ranks)
    text = "\n".join([_MERGES_HEAD, *(lines[rank] for rank in sorted(used))])
    _refuse_foreign(folder)
    write_bytes(folder / MERGES_FILE, gzip.compress(text.encode(), mtime=0))
    return read_tokenizer(folder / MERGES_FILE, context_length)


def write_backbone(folder: Path, model: CLIP, config: dict[str, Any]) -> None:
    """Write weights (float16) and configuration so that `load_embedded` can read them.

    Args:
        folder: Where the merges are already.
        model: The trained model.
        config: open_clip's configuration, with ``preprocessing`` beside it.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    _refuse_foreign(folder)
    write_bytes(folder / WEIGHTS_FILE, save(tensors))
    write_bytes(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def _applied(word: str, ranks: dict[tuple[str, ...], int]) -> set[int]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    used: set[int] = set()
    while True:
        known = [ranks[p] for p in pairwise(pieces) if p in ranks]
        if not known:
            return used
        best = min(known)
        used.add(best)
        merged: list[str] = []
        for piece in pieces:
            if merged and ranks.get((merged[-1], piece)) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged


def _refuse_foreign(folder: Path) -> None:
    """Refuse to overwrite the configuration or weights of a model that is not ours."""
    files = [folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, MERGES_FILE)]
    for file in files:
        refuse_link(file)
    if any(file.exists() for file in files) and not _has_our_merges(folder / MERGES_FILE):
        raise RunError(
            f"{folder} holds another model's files; they are left as they are. Choose another "
            "folder with --out"
        )


def _has_our_merges(file: Path) -> bool:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as content:
            return content.readline().strip() == _MERGES_HEAD
    except (OSError, EOFError, UnicodeDecodeError):
        return False
