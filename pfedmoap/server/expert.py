"""A prompt of another client, as a pool serves it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pfedmoap.server.neighbours import Found
from pfedmoap.server.prompt_rows import PromptRows
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Expert:
    """One pool entry as it is served.

    Attributes:
        client: Whose prompt it is.
        context: The prompt, (L, W).
        distance: Euclidean distance to the query client's own entry.
    """

    client: ClientId
    context: Tensor = field(compare=False)  # of tensors, no single comparison comes
    distance: float


def experts_of(
    rows: PromptRows, shape: Sequence[int], found: Sequence[Found]
) -> list[list[Expert]]:
    """Copy the prompts that were found, each once.

    Args:
        rows: The pool's prompts.
        shape: That of one.
        found: Rows and distances, for each query.
    """
    distinct = sorted({row for near, _ in found for row in near})
    if not distinct:
        return [[] for _ in found]
    contexts = dict(zip(distinct, rows.take(distinct).view(-1, *shape), strict=True))
    ids = rows.ids
    return [
        [
            Expert(ClientId(int(ids[row])), contexts[row], distance)
            for row, distance in zip(near, distances, strict=True)
        ]
        for near, distances in found
    ]
