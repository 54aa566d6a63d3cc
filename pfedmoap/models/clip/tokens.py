"""Token layout of prompts: where the context vectors sit between a tokeniser's own tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.errors import BackboneError, ConfigError

Tokenizer = Callable[[list[str]], Tensor]
ClassPosition = Literal["end", "middle", "front"]


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of one prompt a class, with free slots for the context vectors.

    Attributes:
        ids: Token ids, (C, T); the slots hold an ordinary token's id as a placeholder.
        slots: Positions of the L context vectors in each row, (C, L).
        start: Number of special tokens before the text (1 for CLIP's SOS).
        lengths: Number of tokens up to and including the first end token, (C,).
    """

    ids: Tensor
    slots: Tensor
    start: int
    lengths: Tensor


def prompt_tokens(
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    context_length: int,
    class_position: ClassPosition = "end",
) -> PromptTokens:
    """Lay out ``[start] context name . [end]`` for each class, as CoOp (arXiv 2109.01134) does.

    Args:
        tokenizer: Maps N texts to ids (N, T), padded at the end.
        class_names: C names in label order.
        context_length: Number L of context vectors.
        class_position: Where the name stands relative to the context.

    Returns:
        The layout; every row has the tokeniser's full length T.

    Raises:
        BackboneError: A name leaves no room for the context.
        ConfigError: There are no classes or no context.
    """
    if not class_names or context_length < 1:
        raise ConfigError(
            f"a prompt needs classes and context, got {len(class_names)} classes and "
            f"context length {context_length}"
        )
    empty = tokenizer([""])[0]
    named = tokenizer(list(class_names))
    stop = tokenizer(["."])[0]
    start = _common_prefix(empty, torch.cat([named, stop[None]]))
    placeholder = int(_content(stop, empty, start)[0])
    dot = _content(stop, empty, start)
    total = len(empty)
    context = torch.full((context_length,), placeholder)
    rows, slots, lengths = [], [], []
    for name, row in zip(class_names, named, strict=True):
        words = _content(row, empty, start)
        if class_position == "end":
            before, parts = 0, [context, words, dot]
        elif class_position == "front":
            before, parts = len(words), [words, context, dot]
        else:
            half = context_length // 2
            before, parts = 0, [context[:half], words, context[half:], dot]
        body = torch.cat(parts)
        end = start + len(body)
        if end >= total:
            raise BackboneError(
                f"class name {name!r} has {len(words)} tokens; with {context_length} context "
                f"vectors the prompt needs {end + 1} positions and the text tower has {total}. "
                "Use a shorter context or a shorter class name."
            )
        rows.append(torch.cat([empty[:start], body, empty[start : total - len(body)]]))
        positions = torch.arange(context_length) + start + before
        if class_position == "middle":
            positions[context_length // 2 :] += len(words)
        slots.append(positions)
        lengths.append(end + 1)
    return PromptTokens(torch.stack(rows), torch.stack(slots), start, torch.tensor(lengths))


def refuse_cut_off(tokenizer: Tokenizer, texts: Sequence[str], name: str) -> Tensor:
    """Tokenise texts, and refuse those of which the tokeniser would leave out the end.

    Args:
        tokenizer: Maps N texts to ids (N, T), padded at the end.
        texts: N texts.
        name: The model's, for messages.

    Returns:
        The ids, (N, T).

    Raises:
        BackboneError: A text has more tokens than the text tower has positions, or fills them all.
    """
    rows, longer = tokenizer(list(texts)), tokenizer([f"{text} a" for text in texts])
    for text, cut in zip(texts, (rows == longer).all(dim=1).tolist(), strict=True):
        if cut:
            shown = text if len(text) <= 200 else f"{text[:200]} ..."
            raise BackboneError(
                f"the text {shown!r} leaves no free one of the {rows.shape[1]} token positions of "
                f"{name}, and its end would be left out in silence. Use a shorter class name or a "
                "shorter template"
            )
    return rows


def end_positions(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Find where texts end.

    Args:
        tokenizer: Maps N texts to ids (N, T), padded at the end.
        texts: N texts.

    Returns:
        Position of each text's end token, (N,).
    """
    empty, rows = tokenizer([""])[0], tokenizer(list(texts))
    start = _common_prefix(empty, torch.cat([rows, tokenizer(["."])]))
    return torch.tensor([start + len(_content(row, empty, start)) for row in rows])


def _common_prefix(empty: Tensor, rows: Tensor) -> int:
    """Count the leading tokens that every text starts with."""
    differs = (rows != empty).any(dim=0)
    return int(differs.float().argmax()) if bool(differs.any()) else len(empty)


def _content(row: Tensor, empty: Tensor, start: int) -> Tensor:
    """Cut a row's own tokens out of its special tokens and padding."""
    total = len(row)
    for length in range(total - start):
        if torch.equal(row[start + length :], empty[start : total - length]):
            return row[start : start + length]
    raise BackboneError(f"a text fills all {total} positions of the text tower; shorten it")
