"""A hash of everything that determines a model's outputs; identifies it in runs and caches."""

import hashlib

import torch
from torch import nn

PROBE = ("a photo of a cat.", "Question: how many, 3 or 42? Answer:", "snowy owl")
"""Texts by whose tokens two tokenisers are told apart."""


def fingerprint(model: nn.Module, *marks: str) -> str:
    """Hash a model.

    Args:
        model: Its weights count, with their names, shapes and types, and the kinds and settings of
            its layers: an activation or a number of heads has no weights, and another one gives
            other answers.
        *marks: Whatever else determines its outputs, such as its tokeniser's tokens of `PROBE`.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for layer in model.modules():
        heads = getattr(layer, "num_heads", None)  # which attention does not print
        digest.update(repr((type(layer).__name__, layer.extra_repr(), heads)).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for mark in marks:
        digest.update(mark.encode())
    return digest.hexdigest()
