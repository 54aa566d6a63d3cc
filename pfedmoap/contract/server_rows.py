"""The part of a server's state that belongs to single clients, apart from what they share.

A round changes it for its own clients alone, so that a checkpoint writes theirs and leaves the rest
as it is on disk: it costs what the cohort costs, however many clients there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from pfedmoap.wire.messages import Arrays, ClientId

State = TypeVar("State", contravariant=True)


@dataclass(frozen=True)
class ServerRows:
    """What a server's state holds of each client.

    Attributes:
        owners: Name of the array (n,) of their ids, ascending, among the state's arrays.
        of: By client, its entry in each array that has one for every client; read when it is asked
            for.
    """

    owners: str
    of: Mapping[ClientId, Arrays]


@runtime_checkable
class KeepsRows(Protocol[State]):
    """A method whose server keeps something of each client that a round leaves as it is.

    A round may change it for its cohort, or add it; it takes nothing away.
    """

    def divided(self, state: State) -> tuple[Arrays, ServerRows | None]:
        """Divide the state's arrays into what clients share and what is theirs.

        Args:
            state: The server's state.

        Returns:
            Both parts, of which `joined` makes what `Method.to_arrays` returns; ``None`` in place
            of the second one where the state holds no client.
        """
        ...


def joined(shared: Arrays, rows: ServerRows) -> dict[str, Tensor]:
    """Put both parts of a server's state together: clients in their order, entries stacked."""
    clients = sorted(rows.of)
    if not clients:
        return dict(shared)
    stacked: dict[str, Tensor] = {}
    for place, client in enumerate(clients):
        for name, entry in rows.of[client].items():
            if name not in stacked:
                stacked[name] = entry.new_empty(len(clients), *entry.shape)
            stacked[name][place] = entry
    return {**shared, rows.owners: torch.tensor(clients, dtype=torch.int64), **stacked}


def divide(
    arrays: Arrays, owners: str, names: Sequence[str]
) -> tuple[dict[str, Tensor], ServerRows | None]:
    """Divide arrays that are at hand; see `KeepsRows.divided`.

    Args:
        arrays: The whole state.
        owners: Name of the ids.
        names: Arrays that have an entry for each of them; those that are absent are left out.
    """
    own = {name: arrays[name] for name in names if name in arrays}
    shared = {n: array for n, array in arrays.items() if n != owners and n not in own}
    if owners not in arrays:
        return dict(arrays), None
    places = {ClientId(client): place for place, client in enumerate(arrays[owners].tolist())}
    return shared, ServerRows(owners, _Entries(own, places))


class _Entries(Mapping[ClientId, Arrays]):
    """Entries of stacked arrays."""

    def __init__(self, arrays: Arrays, places: Mapping[ClientId, int]) -> None:
        self._arrays, self._places = arrays, places

    def __getitem__(self, client: ClientId) -> Arrays:
        place = self._places[client]
        return {name: array[place] for name, array in self._arrays.items()}

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
