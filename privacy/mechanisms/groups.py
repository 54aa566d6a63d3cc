"""Privacy units, which are sampled and clipped as one: an example, or a person's examples."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays, ClientId

logger = logging.getLogger(__name__)

Unit = Literal["example", "group"]


class Units(Protocol):
    """Divides each client's training examples into units."""

    @property
    def many(self) -> bool:
        """Whether a unit may have several examples."""
        ...

    def of(self, client: ClientId, size: int) -> Tensor:
        """The unit of each of a client's examples, (n,) int64 counted from 0; -1 never trains."""
        ...


@dataclass(frozen=True)
class Examples:
    """Each example is a unit."""

    many: bool = False

    def of(self, client: ClientId, size: int) -> Tensor:
        """Number the examples."""
        del client
        return torch.arange(size)


@dataclass(frozen=True)
class Groups:
    """All training examples of one person at one client are a unit.

    Attributes:
        owners: Whose each training example is, (n,) by client.
        most: Most examples of one person that train: the first ones in the order of the data set,
            so that which ones depends on this person's examples alone; ``None`` takes all.

    Examples:
        >>> owners = {ClientId(0): torch.tensor([7, 3, 7, 7])}
        >>> Groups(owners, most=2).of(ClientId(0), 4).tolist()
        [1, 0, 1, -1]
    """

    owners: Mapping[ClientId, Tensor]
    most: int | None = None
    many: bool = True

    def of(self, client: ClientId, size: int) -> Tensor:
        """Number the people of a client in the order of their ids.

        Raises:
            PrivacyError: The examples that train are not those whose owners are known.
        """
        own = self.owners.get(client)
        if own is None or len(own) != size:
            known = "none" if own is None else len(own)
            raise PrivacyError(
                f"client {client} trains on {size} examples, but the owners of {known} are known: "
                "for a guarantee for people, train on the data that the groups belong to"
            )
        unit: Tensor = own.unique(return_inverse=True)[1]
        if self.most is None:
            return unit
        order = unit.argsort(stable=True)  # person by person, each in the order of the data
        starts = unit.bincount().cumsum(0) - unit.bincount()
        earlier = torch.empty_like(unit)  # how many of the same person stand before it
        earlier[order] = torch.arange(size) - starts[unit[order]]
        return unit.where(earlier < self.most, torch.tensor(-1))


class GroupMeans:
    """Averages gradients of examples over the people whose they are, chunk by chunk.

    A person's vector depends on that person's examples alone, so that clipping it bounds what the
    person adds to a sum, whatever the number of examples.

    Args:
        owner: Whose each example of a step is, (K, B), below B.
        present: Whether it is a real one, (K, B).
    """

    def __init__(self, owner: Tensor, present: Tensor) -> None:
        self._owner, self._sums = owner, dict[str, Tensor]()
        self._counts = torch.zeros_like(owner).scatter_add_(1, owner, present.to(owner.dtype))

    def add(self, start: int, vectors: Arrays) -> None:
        """Take the gradients of examples from ``start`` on, each (K, b, ...); padding is 0."""
        for name, value in vectors.items():
            clients, count = value.shape[:2]
            owner = self._owner[:, start : start + count]
            if name not in self._sums:
                self._sums[name] = value.new_zeros(clients, self._owner.shape[1], *value.shape[2:])
            place = owner.view(clients, count, *[1] * (value.dim() - 2)).expand_as(value)
            self._sums[name].scatter_add_(1, place, value)

    @property
    def present(self) -> Tensor:
        """Which of the people have an example in the step, (K, B)."""
        return self._counts > 0

    def means(self) -> dict[str, Tensor]:
        """One vector a person, each (K, B, ...); zero beyond the people of the step."""
        counts = self._counts.clamp(min=1)
        return {
            name: value / counts.view(*counts.shape, *[1] * (value.dim() - 2))
            for name, value in self._sums.items()
        }


def groups_of(
    unit: Unit, most: int | None, owners: Mapping[ClientId, Tensor] | None
) -> Groups | None:
    """Make the units that options ask for; ``None`` for single examples.

    Where people are known and single examples are protected, a warning says so.

    Raises:
        PrivacyError: People are to be protected, but nothing says whose an example is.
    """
    if unit == "example":
        if owners is not None:
            logger.warning(
                "the data say whose each image is, but single images are protected: somebody with "
                "several images is protected less. `--privacy.unit group` protects people"
            )
        return None
    if owners is None:
        raise PrivacyError(
            "privacy.unit group needs data that say whose each image is: a column `group` with "
            "`--data csv`, or `--data folder --data.groups subfolder`"
        )
    return Groups(owners, most)
