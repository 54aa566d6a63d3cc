"""What vectors are clipped to, and their clipped and noised sum; a norm that stays fixed."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pfedmoap.wire.messages import Arrays
from privacy.mechanisms.noisy_sum import NoisySum
from privacy.mechanisms.randomness import SecureStream

Rule = Literal["fixed", "adaptive"]


class Clipping(Protocol):
    """Determines the norm that vectors are clipped to.

    Its steps are functions of one client's tensors, so that they can be mapped over clients.
    """

    @property
    def noise_multiplier(self) -> float:
        """Noise in multiples of what the sums are clipped to."""
        ...

    @property
    def normaliser(self) -> float:
        """Public number that noisy sums are divided by."""
        ...

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> "ClippedSum":
        """Begin a noisy sum.

        Args:
            like: Named tensors of the vectors' shapes; their values do not matter.
            norm: The clipping norm now.
            stream: Where the noise comes from.
        """
        ...

    def summed(self, like: Arrays) -> Arrays:
        """Return ``like`` with all parts that are summed."""
        ...

    def limit(self, norm: Tensor | float) -> float:
        """Return what `prepare` leaves to be clipped to, a public constant."""
        ...

    def prepare(
        self, vectors: Arrays, norm: Tensor | float, present: Tensor
    ) -> tuple[Arrays, Tensor]:
        """Prepare n vectors for a sum that clips to `limit`.

        Args:
            vectors: Named tensors, each (n, ...).
            norm: The clipping norm now.
            present: Which are vectors at all, (n,) bool; the others are zero and add nothing.

        Returns:
            What is summed, each (n, ...), and which were longer than the norm, (n,) bool; the
            latter is not private.
        """
        ...

    def conclude(
        self, found: Arrays, norm: Tensor | float
    ) -> tuple[dict[str, Tensor], Tensor | float]:
        """Turn a noisy sum over the normaliser into that of the vectors, and the next norm."""
        ...


class ClippedSum:
    """One noisy sum of clipped vectors; see `Clipping.sum`."""

    def __init__(
        self, clipping: Clipping, like: Arrays, norm: Tensor | float, stream: SecureStream
    ) -> None:
        self._clipping, self._norm = clipping, norm
        self._sum = NoisySum(
            clipping.summed(like),
            noise_multiplier=clipping.noise_multiplier,
            max_norm=clipping.limit(norm),
            normaliser=clipping.normaliser,
            stream=stream,
        )

    def add(self, vectors: Arrays, present: Tensor) -> Tensor:
        """Clip and add n vectors.

        Args:
            vectors: Named tensors, each (n, ...).
            present: Which are vectors at all, (n,) bool; the others are zero and add nothing.

        Returns:
            Which were longer than the norm, (n,) bool; not private.
        """
        prepared, longer = self._clipping.prepare(vectors, self._norm, present)
        self._sum.add(prepared)
        return longer

    def finish(self) -> tuple[dict[str, Tensor], Tensor | float]:
        """Add the noise and divide.

        Returns:
            The noisy sum over the normaliser, each part of its shape, and the next norm.
        """
        return self._clipping.conclude(self._sum.finish(), self._norm)


@dataclass(frozen=True)
class FixedClipping:
    """Keeps the norm fixed.

    Attributes:
        noise_multiplier: Noise in multiples of the norm.
        normaliser: Public number that noisy sums are divided by.
    """

    noise_multiplier: float
    normaliser: float

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> ClippedSum:
        """Begin a noisy sum; see `Clipping.sum`."""
        return ClippedSum(self, like, float(norm), stream)

    def summed(self, like: Arrays) -> Arrays:
        """The vectors alone."""
        return like

    def limit(self, norm: Tensor | float) -> float:
        """The norm itself."""
        return float(norm)

    def prepare(
        self, vectors: Arrays, norm: Tensor | float, present: Tensor
    ) -> tuple[Arrays, Tensor]:
        """Leave the vectors as they are; see `Clipping.prepare`."""
        return vectors, present & (lengths(vectors) > norm)

    def conclude(
        self, found: Arrays, norm: Tensor | float
    ) -> tuple[dict[str, Tensor], Tensor | float]:
        """Keep the norm; see `Clipping.conclude`."""
        return dict(found), norm


def lengths(vectors: Arrays) -> Tensor:
    """L2 norm of n vectors over all of their named parts together, (n,)."""
    parts = [torch.linalg.vector_norm(value.flatten(1), dim=1) for value in vectors.values()]
    together: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return together
