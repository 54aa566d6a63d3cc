"""Plan which examples of each client every training step uses, before the first step runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pfedmoap.client.placement import placed
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays, ClientId

_PLAN_TENSORS = ("index", "view", "weight", "active")


@dataclass(frozen=True)
class Stream:
    """Names the random stream of one client in one round.

    Attributes:
        seed: The training seed.
        client: The client.
        round: The round.
        phase: Which of several trainings in the round; ``None`` for the first or only one.
    """

    seed: int
    client: ClientId
    round: int
    phase: str | None = None


@dataclass(frozen=True)
class Batch:
    """One step's examples of K clients.

    Attributes:
        features: By kind, (K, B, ...).
        labels: (K, B) int64.
        weight: Weight of each example in its client's loss, (K, B); 0 marks padding.
        streams: The clients' random streams; also says whose examples these are.
        owner: Which person of its client each example belongs to, (K, B), counted from 0 in each
            step, so that it is below B; ``None`` where each example stands for itself.
    """

    features: Arrays
    labels: Tensor
    weight: Tensor
    streams: tuple[Stream, ...]
    owner: Tensor | None = None


@dataclass(frozen=True)
class BatchPlan:
    """All steps of K clients; clients with fewer steps are inactive in the last ones.

    Attributes:
        index: Which example, (S, K, B).
        view: Which of its views, (S, K, B).
        weight: Weight of each example, (S, K, B); 0 marks padding.
        active: Whether a client takes a step, (S, K).
        widths: Examples of the client with most of them, by step; S integers. The rest is padding.
        streams: The K clients' random streams.
        owner: See `Batch.owner`, (S, K, B).
    """

    index: Tensor
    view: Tensor
    weight: Tensor
    active: Tensor
    widths: tuple[int, ...]
    streams: tuple[Stream, ...]
    owner: Tensor | None = None

    @classmethod
    def stack(
        cls,
        plans: Sequence[tuple[Tensor, Tensor, Tensor]],
        streams: Sequence[Stream],
        owners: Sequence[Tensor] | None = None,
    ) -> "BatchPlan":
        """Pad K clients' plans to one size and stack them.

        Args:
            plans: Index, view and weight of each client, (S_k, B_k), padding behind the examples.
            streams: The clients' random streams.
            owners: Whose each of these examples is, (S_k, B_k) for each client.

        Returns:
            The plan; a client takes all of its S_k steps, even one without examples.
        """
        width = max(1, *(index.shape[1] for index, _, _ in plans))

        def pad(tensors: Sequence[Tensor]) -> Tensor:
            wide = [F.pad(one, (0, w)) if (w := width - one.shape[1]) else one for one in tensors]
            return pad_sequence(wide)

        index, view, weight = (pad([plan[i] for plan in plans]) for i in range(3))
        owner = None if owners is None else pad(owners)
        steps = torch.tensor([len(index) for index, _, _ in plans])
        active = torch.arange(len(index))[:, None] < steps
        widths = (weight > 0).sum(2).amax(1).clamp(min=1).tolist()
        return cls(index, view, weight, active, tuple(widths), tuple(streams), owner)

    def to(self, device: torch.device) -> "BatchPlan":
        """Move the plan to a device."""
        moved: dict[str, Any] = {
            name: placed(getattr(self, name), device) for name in _PLAN_TENSORS
        }
        if self.owner is not None:
            moved["owner"] = placed(self.owner, device)
        return replace(self, **moved)


@dataclass(frozen=True)
class StackedData:
    """The training data of K clients on one device, padded to the largest.

    Attributes:
        features: By kind, (K, n, V, ...).
        labels: (K, n) int64.
    """

    features: Arrays
    labels: Tensor

    @classmethod
    def stack(
        cls,
        features: Sequence[Mapping[str, Tensor]],
        labels: Sequence[Tensor],
        device: torch.device,
    ) -> "StackedData":
        """Pad and stack clients' features (n_i, V, ...) and labels (n_i,).

        There is at least one row, so that padding indices are valid even if no client has an
        example: whether a client has any is private and must not be visible in the shapes.
        """

        def pad(tensors: Sequence[Tensor]) -> Tensor:
            padded = pad_sequence(list(tensors), batch_first=True)
            return placed(padded if padded.shape[1] else _one_row(padded), device)

        kinds = features[0].keys()
        return cls({kind: pad([own[kind] for own in features]) for kind in kinds}, pad(labels))

    def batch(self, plan: BatchPlan, step: int) -> Batch:
        """Gather one step's examples; stays on the device."""
        width = plan.widths[step]
        index, view, weight = (t[step, :, :width] for t in (plan.index, plan.view, plan.weight))
        client = torch.arange(len(index), device=index.device)[:, None]
        features = {kind: views[client, index, view] for kind, views in self.features.items()}
        owner = None if plan.owner is None else plan.owner[step, :, :width]
        return Batch(features, self.labels[client, index], weight, plan.streams, owner)


def _one_row(empty: Tensor) -> Tensor:
    """Padding for K clients without an example: (K, 0, ...) to (K, 1, ...)."""
    return empty.new_zeros(empty.shape[0], 1, *empty.shape[2:])


@dataclass(frozen=True)
class Cohort:
    """K clients that train together as one batch.

    Attributes:
        data: Their training data, on one device.
        sizes: How many examples each of them has.
        streams: Each one's random stream.
    """

    data: StackedData
    sizes: tuple[int, ...]
    streams: tuple[Stream, ...]


def shuffled_epochs(
    sizes: Sequence[int],
    views: int,
    streams: Sequence[Stream],
    epochs: int,
    batch_size: int,
    steps: int | None = None,
) -> BatchPlan:
    """Plan ordinary epochs: each client's examples once an epoch, in its own random order.

    An epoch's last batch may be smaller; its examples are then averaged over its true size. A
    client without examples takes no step. Views rotate from epoch to epoch, so that no view is
    used again before all others have been used.

    Args:
        sizes: Number of training examples of each of K clients.
        views: Number V of views of each example.
        streams: The clients' random streams.
        epochs: Passes over the data.
        batch_size: Largest number B of examples in a step.
        steps: Steps of each client in place of ``epochs``: as many passes as they take, of which
            the last may be cut short.

    Returns:
        A plan for K clients.
    """
    plans = [
        _client_epochs(size, views, stream, epochs, batch_size)
        if steps is None or size == 0
        else _client_steps(size, views, stream, steps, batch_size)
        for size, stream in zip(sizes, streams, strict=True)
    ]
    return BatchPlan.stack(plans, streams)


def _client_steps(
    size: int, views: int, stream: Stream, steps: int, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan so many steps of one client; returns index, view and weight, each (S, B)."""
    passes = -(-steps // -(-size // batch_size))
    index, view, weight = _client_epochs(size, views, stream, passes, batch_size)
    return index[:steps], view[:steps], weight[:steps]


def _client_epochs(
    size: int, views: int, stream: Stream, epochs: int, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan one client's epochs; returns index, view and weight, each (S, B)."""
    if size == 0:
        nothing = torch.zeros(0, 1, dtype=torch.int64)
        return nothing, nothing, nothing.float()
    width = min(batch_size, size)
    phase = () if stream.phase is None else (stream.phase,)
    names = ("client", stream.client, "round", stream.round, *phase, "order")
    order = generator(stream.seed, *names)
    rotation = generator(stream.seed, "client", stream.client, "views")
    view_order = torch.rand(size, views, generator=rotation).argsort(1)
    rows: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for epoch in range(epochs):
        turn = ((stream.round - 1) * epochs + epoch) % views
        for chosen in torch.randperm(size, generator=order).split(batch_size):
            missing = width - len(chosen)
            weight = torch.full((len(chosen),), 1 / len(chosen))
            for row, tensor in zip(rows, (chosen, view_order[chosen, turn], weight), strict=True):
                row.append(F.pad(tensor, (0, missing)) if missing else tensor)
    index, view, weights = (torch.stack(row) for row in rows)
    return index, view, weights
