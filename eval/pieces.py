"""Test images in pieces that are classified at once."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from pfedmoap.contract.tasks import ClientData
from pfedmoap.wire.messages import Arrays

CHUNK = 1024  # test images classified at once


def groups(pieces: Sequence[tuple[int, Arrays]]) -> Iterator[list[tuple[int, Arrays]]]:
    """Group pieces of test sets into batches of about `CHUNK` images."""
    group: list[tuple[int, Arrays]] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(next(iter(piece[1].values())))
        if size >= CHUNK:
            yield group
            group, size = [], 0
    if group:
        yield group


def chunks(data: ClientData) -> list[Arrays]:
    """Cut a test set's features, by kind, into pieces of `CHUNK` images."""
    features: Mapping[str, torch.Tensor] = data.view(0)
    starts = range(0, len(data), CHUNK)
    return [{kind: f[start : start + CHUNK] for kind, f in features.items()} for start in starts]
