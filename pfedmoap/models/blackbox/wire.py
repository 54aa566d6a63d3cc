"""Serialise questions and answers as safetensors with JSON metadata; no code is executed."""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pfedmoap.errors import BlackBoxError
from pfedmoap.models.blackbox.interface import Question, TextPrompt

PATH = "/v1/logits"
CONTENT_TYPE = "application/x-safetensors"
LARGEST_BYTES = 64 * 2**20  # of a question or an answer
TEXT_FIELDS = ("class_names", "templates")


def encode_question(question: Question) -> bytes:
    """Write a question: tensor ``images`` and perhaps ``context``; the texts as metadata."""
    text = question.text
    arrays = {"images": question.images}
    if text.context is not None:
        arrays["context"] = text.context
    texts = {name: json.dumps(getattr(text, name)) for name in TEXT_FIELDS}
    return _save(arrays, texts)


def decode_question(content: bytes) -> Question:
    """Read a question.

    Raises:
        BlackBoxError: The bytes are no question; the message says what is wrong.
    """
    arrays = _load(content, {"images": 4}, {"context": 2})
    texts = _metadata(content)
    fields = {name: _words(texts, name) for name in TEXT_FIELDS}
    return Question(arrays["images"], TextPrompt(**fields, context=arrays.get("context")))


def encode_logits(logits: Tensor) -> bytes:
    """Write logits (B, C)."""
    return _save({"logits": logits}, {})


def decode_logits(content: bytes, shape: tuple[int, int]) -> Tensor:
    """Read logits of a known shape (B, C).

    Raises:
        BlackBoxError: The bytes are no such answer.
    """
    logits = _load(content, {"logits": 2}, {})["logits"]
    if tuple(logits.shape) != shape:
        raise BlackBoxError(f"the logits have shape {tuple(logits.shape)}, expected {shape}")
    return logits


def _save(arrays: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    plain = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    return bytes(save(plain, metadata=metadata))


def _load(
    content: bytes, required: Mapping[str, int], optional: Mapping[str, int]
) -> dict[str, Tensor]:
    """Read float32 tensors of known names and dimensions, every value finite."""
    try:
        arrays: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BlackBoxError(f"the payload is not safetensors: {error}") from error
    known = {**required, **optional}
    if not set(required) <= set(arrays) <= set(known):
        raise BlackBoxError(f"the payload holds {sorted(arrays)}, expected {sorted(known)}")
    for name, array in arrays.items():
        if array.dtype != torch.float32 or array.dim() != known[name] or array.numel() == 0:
            raise BlackBoxError(
                f"{name} is {array.dtype} of shape {tuple(array.shape)}, expected float32 with "
                f"{known[name]} dimensions and at least one value"
            )
        if not bool(torch.isfinite(array).all()):
            raise BlackBoxError(f"{name} holds values that are not finite")
    return arrays


def _metadata(content: bytes) -> dict[str, str]:
    """The header's own strings; `load` has checked that there is a whole header."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    found = header.get("__metadata__") or {}
    return {str(name): str(value) for name, value in found.items()}


def _words(texts: Mapping[str, str], name: str) -> tuple[str, ...]:
    try:
        words = json.loads(texts.get(name, "[]"))
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        raise BlackBoxError(f"{name} is not JSON: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BlackBoxError(f"{name} must be a list of texts")
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(words)):
        raise BlackBoxError(f"{name} holds half of a surrogate pair, which is no character")
    return tuple(words)
