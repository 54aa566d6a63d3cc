"""What an attack is: the data that a hostile client trains on, and what it sends in place of them.

A hostile client has what any client has: its own data, what the server sends it, and the protocol.
It works together with the other hostile ones, who share what they were sent. It knows neither the
honest clients' data nor their uploads, unless the server hands those out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pfedmoap.contract.tasks import ClientData
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class Sight:
    """What a hostile client knows when it uploads.

    Attributes:
        sent: What the server sent it in this round.
        before: What it was sent in the round before; ``None`` in its first one.
        shared: What the server sent to all hostile clients in this round, itself among them.
        attackers: The hostile clients.
        clients: How many clients there are.
        stream: Its own randomness in this round.
    """

    sent: Download
    before: Download | None
    shared: Sequence[Download]
    attackers: frozenset[ClientId]
    clients: int
    stream: torch.Generator


@dataclass(frozen=True)
class PoisonSource:
    """What a hostile client can make its training data of.

    Attributes:
        own: Its n examples.
        triggered: The same with the trigger on each image.
        classes: Number of classes.
        target: The class that triggered images are to be taken for.
    """

    own: ClientData
    triggered: ClientData
    classes: int
    target: int


Poison = Callable[[PoisonSource], ClientData]
Forge = Callable[[Update, Sight], Update]


def honest_data(source: PoisonSource) -> ClientData:
    """Train on the own examples as they are."""
    return source.own


def honest_upload(update: Update, sight: Sight) -> Update:
    """Upload what was trained."""
    del sight
    return update


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        does: What it does, in a few words for the table.
        poison: The data that it trains on; the training itself is an honest client's.
        forge: What it uploads, given what it trained.
    """

    does: str
    poison: Poison = honest_data
    forge: Forge = honest_upload


def start_of(update: Update, sent: Download) -> Arrays:
    """What each uploaded array started from: what was sent under its name, or else zero."""
    return {
        name: sent.arrays[name]
        if name in sent.arrays and sent.arrays[name].shape == array.shape
        else torch.zeros_like(array)
        for name, array in update.arrays.items()
    }


def moved(update: Update, sent: Download, factor: float) -> Update:
    """Upload ``factor`` times the trained change; -1 goes as far in the opposite direction."""
    starts = start_of(update, sent)
    return with_arrays(update, lambda name, array: starts[name] + factor * (array - starts[name]))


def with_arrays(update: Update, make: Callable[[str, Tensor], Tensor]) -> Update:
    """Replace each uploaded array by what ``make(name, array)`` returns."""
    return replace(update, arrays={name: make(name, a) for name, a in update.arrays.items()})
