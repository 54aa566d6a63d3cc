"""A pool's prompts as named arrays: how they are stored, and how they come back.

``pool.clients`` (n,) are the owners in ascending order, ``pool.contexts`` (n, L, W) their prompts.
A pool in 16 bits has its numbers as they are kept, with ``pool.exponents`` (n,); the empty
``pool.like`` has the dtype that prompts are uploaded and served in.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.server.prompt_rows import PromptRows, check_prompts, empty_store
from pfedmoap.server.row_store import Packed
from pfedmoap.wire.messages import Arrays, ClientId

CLIENTS = "pool.clients"
CONTEXTS = "pool.contexts"
EXPONENTS = "pool.exponents"
LIKE = "pool.like"
OF_CLIENTS = (CONTEXTS, EXPONENTS)
"""Arrays with an entry for each client of `CLIENTS`."""


def arrays_of(rows: PromptRows, chosen: Sequence[int], shape: Sequence[int]) -> dict[str, Tensor]:
    """Some rows' entries in the arrays of `OF_CLIENTS`, each (len(chosen), ...)."""
    packed = rows.packed(chosen)
    found = {CONTEXTS: packed.values.view(len(chosen), *shape)}
    return found if packed.exponents is None else {**found, EXPONENTS: packed.exponents}


def shared_arrays(rows: PromptRows) -> dict[str, Tensor]:
    """What is stored of the prompts beside the clients' entries."""
    return {LIKE: torch.empty(0, dtype=rows.dtype)} if rows.half else {}


class Entries(Mapping[ClientId, Arrays]):
    """Each client's entry in the arrays of `OF_CLIENTS`, read when it is asked for.

    Args:
        rows: The prompts; a version, so that later ones do not show.
        clients: Their owners, in the order of ids.
        shape: That of a prompt.
    """

    def __init__(self, rows: PromptRows, clients: Sequence[ClientId], shape: Sequence[int]) -> None:
        self._rows, self._clients, self._shape = rows, clients, shape

    def __getitem__(self, client: ClientId) -> Arrays:
        row = self._rows.row(client)
        if row is None:
            raise KeyError(client)
        return {name: entry[0] for name, entry in arrays_of(self._rows, [row], self._shape).items()}

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)

    def __contains__(self, client: object) -> bool:
        return self._rows.row(client) is not None


def to_arrays(rows: PromptRows, shape: Sequence[int]) -> dict[str, Tensor]:
    """All prompts as named arrays."""
    order = np.argsort(rows.ids)
    clients = torch.from_numpy(rows.ids[order])
    return {CLIENTS: clients, **arrays_of(rows, order.tolist(), shape), **shared_arrays(rows)}


def without_client(arrays: Arrays, client: ClientId) -> dict[str, Tensor]:
    """The same without one client; empty where no other is left."""
    kept = arrays[CLIENTS] != client
    if not bool(kept.any()):
        return {}
    whole = {LIKE: arrays[LIKE]} if LIKE in arrays else {}
    return {n: arrays[n][kept] for n in (CLIENTS, *OF_CLIENTS) if n in arrays} | whole


def prompt_of(arrays: Arrays, client: ClientId) -> Tensor | None:
    """Copy one client's prompt, (L, W), from a whole pool's arrays; ``None`` if it has none."""
    if CLIENTS not in arrays:
        return None
    own = (arrays[CLIENTS] == client).nonzero().flatten()
    if not len(own):
        return None
    context = arrays[CONTEXTS][own]
    packed = Packed(context.flatten(1), arrays[EXPONENTS][own] if EXPONENTS in arrays else None)
    dtype = arrays[LIKE].dtype if LIKE in arrays else context.dtype
    return packed.unpacked(dtype).view_as(context)[0]


def from_arrays(arrays: Arrays, options: PoolOptions) -> tuple[PromptRows, tuple[int, ...]]:
    """Inverse of `to_arrays`, with prompts; returns the rows and the shape of a prompt.

    Raises:
        PFedMoAPError: A prompt is not finite.
    """
    clients = list(map(ClientId, arrays[CLIENTS].tolist()))
    contexts = arrays[CONTEXTS]
    check_prompts(dict(zip(clients, contexts, strict=True)))
    flat, shape = contexts.flatten(1), tuple(contexts.shape[1:])
    packed = Packed(flat, arrays.get(EXPONENTS))
    dtype = arrays[LIKE].dtype if LIKE in arrays else flat.dtype
    store = empty_store(flat.shape[1], dtype, options)
    if packed.exponents is None or not store.half:
        packed = Packed.of(packed.unpacked(dtype), half=store.half)
    return PromptRows.of(clients, packed, store), shape
