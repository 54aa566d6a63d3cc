"""Noisy sums of many clients' clipped vectors, side by side, from noise that was drawn before."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from pfedmoap.wire.messages import Arrays
from privacy.mechanisms.clipping import Clipping
from privacy.mechanisms.noisy_sum import bound, clipped_sum, noised

PerClient = Callable[..., tuple[dict[str, Tensor], Tensor]]
"""From named tensors, and further tensors, to named tensors and one more."""


class CohortSum:
    """K clients' noisy sums of clipped vectors, side by side: each one's is a `ClippedSum`.

    Args:
        clipping: What vectors are clipped to.
        params: Parameters, each (K, ...), for their shapes and dtypes.
        norm: The clients' clipping norms now, (K,).
        first: Every client's norm at the start of a round.
    """

    def __init__(self, clipping: Clipping, params: Arrays, norm: Tensor, first: float) -> None:
        self._clipping, self._norm, self._limit = clipping, norm, clipping.limit(first)
        self._dtypes = {name: value.dtype for name, value in params.items()}
        own = clipping.summed({name: value[0] for name, value in params.items()})
        self._size = sum(value.numel() for value in own.values())
        self._sums = {
            name: value.new_zeros((len(norm), *value.shape), dtype=torch.float64)
            for name, value in own.items()
        }
        self.longer = torch.zeros(len(norm), dtype=torch.int64, device=norm.device)
        self.every = torch.zeros_like(self.longer)

    def add(self, vectors: Arrays, present: Tensor) -> None:
        """Clip and add each client's n vectors, (K, n, ...); (K, n) of them are there at all."""
        most = bound(self._limit, self._clipping.noise_multiplier * self._limit, self._size)

        def one(own: Arrays, norm: Tensor, there: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            prepared, longer = self._clipping.prepare(own, norm, there)
            return clipped_sum(prepared, most), longer

        sums, longer = mapped(one, self._norm.device)(dict(vectors), self._norm, present)
        self._sums = {name: value + sums[name] for name, value in self._sums.items()}
        self.longer = self.longer + longer.sum(1)
        self.every = self.every + present.sum(1)

    def finish(self, std: float, noise: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Add noise (K, P) and divide: gradients, each (K, ...), and the next norms, (K,)."""

        def one(sums: Arrays, norm: Tensor, *drawn: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            noisy = noised(sums, std, *drawn) if drawn else dict(sums)
            means = {
                name: (value / self._clipping.normaliser).to(self._dtypes.get(name, norm.dtype))
                for name, value in noisy.items()
            }
            sums, following = self._clipping.conclude(means, norm)
            return sums, torch.as_tensor(following)

        drawn = () if noise is None else (noise,)
        return mapped(one, self._norm.device)(self._sums, self._norm, *drawn)


def mapped(one: PerClient, device: torch.device) -> PerClient:
    """Apply a function of one client's tensors to those of K clients, each (K, ...).

    On a CPU one client after the other, whose vectors then stay in its caches; on a GPU all at
    once, since a launch costs as much for one client as for many.
    """
    if device.type != "cpu":
        found: PerClient = vmap(one)
        return found

    def each(arrays: Arrays, *more: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        rows = [
            one({name: value[row] for name, value in arrays.items()}, *(each[row] for each in more))
            for row in range(len(more[0]))
        ]
        names = rows[0][0]
        stacked = {name: torch.stack([own[name] for own, _ in rows]) for name in names}
        return stacked, torch.stack([beside for _, beside in rows])

    return each
