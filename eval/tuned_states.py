"""States that clients tune before inference, made for a few clients at a time.

They are asked for in the order of client ids, tuned as they are reached, and dropped as the next
few are: what is in memory does not grow with the clients.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.batch_size import MOST
from pfedmoap.contract.capabilities import personal_states
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientTask
from pfedmoap.wire.messages import Arrays, ClientId, Download

TOGETHER = 64
"""Clients that are tuned together at least: as many whole batches of clients as reach it."""


class TunedStates(Mapping[ClientId, Arrays | None]):
    """What each client predicts with, by its id; see `personal_states`.

    Groups are whole batches of clients, so that results do not depend on them. A state that is
    asked for again after one of another group is tuned again.

    Args:
        method: The method; clients of it tune before inference.
        downloads: What the server would send to clients that may tune, in the order of ids.
        local_states: What clients kept from rounds.
        data: Training data of these clients.
        privatizer: How gradients are formed.
        untuned: Clients that never train, not even before inference.
    """

    def __init__(
        self,
        method: AnyMethod,
        downloads: Sequence[Download],
        local_states: Mapping[ClientId, Arrays],
        data: Mapping[ClientId, ClientData],
        privatizer: Privatizer,
        untuned: frozenset[ClientId],
    ) -> None:
        self._method, self._privatizer, self._untuned = method, privatizer, untuned
        self._local_states, self._data = local_states, data
        size = method.setting.training.clients_per_batch
        each = MOST if size == "auto" else size * -(-TOGETHER // size)
        able = [download for download in downloads if len(data[download.client])]
        self._groups = [able[start : start + each] for start in range(0, len(able), each)]
        self._group_of = {
            download.client: number
            for number, group in enumerate(self._groups)
            for download in group
        }
        self._idle = {download.client for download in downloads} - self._group_of.keys()
        self._held: tuple[int | None, Mapping[ClientId, Arrays | None]] = (None, {})

    def __getitem__(self, client: ClientId) -> Arrays | None:
        if client in self._untuned:
            return None
        if client in self._idle:
            return self._local_states.get(client)
        number = self._group_of[client]
        if self._held[0] != number:
            self._held = (None, {})  # dropped before the next ones are made
            tasks = [
                ClientTask(each, self._local_states.get(each.client), self._data[each.client])
                for each in self._groups[number]
            ]
            with torch.enable_grad():  # whoever asks may be predicting
                self._held = (number, personal_states(self._method, tasks, self._privatizer))
        return self._held[1][client]

    def __iter__(self) -> Iterator[ClientId]:
        return iter(sorted({*self._untuned, *self._idle, *self._group_of}))

    def __len__(self) -> int:
        return len({*self._untuned, *self._idle, *self._group_of})

    def __contains__(self, client: object) -> bool:
        """Whether a client has a state, tuned or kept; nothing is tuned to see it."""
        kept = client in self._idle and client in self._local_states
        return client in self._group_of or kept
