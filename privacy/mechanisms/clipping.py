"""Fixed clipping norms, norms that follow a quantile, and counts of clipped vectors."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.mechanisms.noisy_sum import NoisySum
from privacy.mechanisms.randomness import SecureStream

Rule = Literal["fixed", "adaptive"]
_COUNT = "clipping.count"  # beside the vector's own parts, none of which has such a name
_SMALLEST, _LARGEST = 1e-6, 1e6  # bounds of an adaptive norm, which may follow noise alone


@dataclass
class Tally:
    """How many of each client's vectors were longer than the clipping norm, **without noise**.

    It is not private: it stays with the client or the operator, and no mechanism reads it.
    """

    _longer: dict[ClientId, Tensor] = field(default_factory=dict)
    _all: dict[ClientId, Tensor] = field(default_factory=dict)

    def note(self, client: ClientId, longer: Tensor, present: Tensor) -> None:
        """Count some vectors of a client.

        Args:
            client: Whose they are.
            longer: Which are longer than the norm, (n,) bool.
            present: Which are vectors at all and no padding, (n,) bool.
        """
        self._longer[client] = (longer & present).sum() + self._longer.get(client, 0)
        self._all[client] = present.sum() + self._all.get(client, 0)

    def take(self) -> dict[ClientId, float]:
        """Return the share of clipped vectors of each client with vectors, and reset the counts."""
        shares = {
            client: float(self._longer[client] / every)
            for client, every in sorted(self._all.items())
            if int(every)
        }
        self._longer, self._all = {}, {}
        return shares


class ClippedSum(Protocol):
    """One noisy sum of clipped vectors."""

    def add(self, vectors: Arrays, present: Tensor) -> Tensor:
        """Clip and add n vectors.

        Args:
            vectors: Named tensors, each (n, ...).
            present: Which are vectors at all, (n,) bool; the others are zero and add nothing.

        Returns:
            Which were longer than the norm, (n,) bool; not private.
        """
        ...

    def finish(self) -> tuple[dict[str, Tensor], Tensor | float]:
        """Add the noise and divide.

        Returns:
            The noisy sum over the normaliser, each part of its shape, and the next norm.
        """
        ...


class Clipping(Protocol):
    """Determines the norm that vectors are clipped to."""

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> ClippedSum:
        """Begin a noisy sum.

        Args:
            like: Named tensors of the vectors' shapes; their values do not matter.
            norm: The clipping norm now.
            stream: Where the noise comes from.
        """
        ...


@dataclass(frozen=True)
class FixedClipping:
    """Keeps the norm fixed.

    Attributes:
        noise_multiplier: Noise in multiples of the norm.
        normaliser: Public number that noisy sums are divided by.
    """

    noise_multiplier: float
    normaliser: float

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> "FixedSum":
        """Begin a noisy sum; see `Clipping.sum`."""
        return FixedSum(self, like, float(norm), stream)


class FixedSum:
    """A noisy sum, and a count of what was clipped; see `FixedClipping.sum`."""

    def __init__(
        self, clipping: FixedClipping, like: Arrays, norm: float, stream: SecureStream
    ) -> None:
        self._norm = norm
        self._sum = NoisySum(
            like,
            noise_multiplier=clipping.noise_multiplier,
            max_norm=norm,
            normaliser=clipping.normaliser,
            stream=stream,
        )

    def add(self, vectors: Arrays, present: Tensor) -> Tensor:
        """Clip and add n vectors; see `ClippedSum.add`."""
        self._sum.add(vectors)
        return present & (lengths(vectors) > self._norm)

    def finish(self) -> tuple[dict[str, Tensor], float]:
        """Add the noise and divide; see `ClippedSum.finish`."""
        return self._sum.finish(), self._norm


@dataclass(frozen=True)
class AdaptiveClipping:
    """The clipping norm follows a quantile (Andrew et al., NeurIPS 2021, arXiv 1905.03871).

    Beside the sum of clipped vectors, each round or step releases how many were within the norm C,
    with noise of its own, and takes ``C exp(-learning_rate (share - target_quantile))`` next.

    **The price** is paid by the sum. The count and the sum are one Gaussian mechanism on the pair
    of both, scaled so that the pair has l2 sensitivity 1 and noise ``noise_multiplier``, which is
    what accounts for it. The sum alone then has the noise of the paper's theorem 1,
    ``z_delta = (z^-2 - (s / sigma_b)^2)^-1/2``, with s the sensitivity of the count.

    We depart from the paper in the shift: a vector adds ``within - target_quantile`` in place of
    ``within - 1/2``. Both are the same at the median, where s = 1/2. Elsewhere s is larger, up to
    1, but C is stationary at the quantile for any normaliser, which here is public and need
    not be the number of vectors (it is private with Poisson sampling).

    Attributes:
        target_quantile: Share of the vectors that shall be within the norm, in (0, 1).
        learning_rate: Step size of the norm's logarithm.
        noise_multiplier: Noise z that the pair is accounted with.
        count_noise_std: Standard deviation sigma_b of the noise on the count; none takes the larger
            of the paper's ``normaliser / 20`` and the one that costs the sum 3 % more noise.
        normaliser: Public number that noisy sums and counts are divided by.
    """

    target_quantile: float
    learning_rate: float
    noise_multiplier: float
    normaliser: float
    count_noise_std: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target_quantile < 1:
            raise PrivacyError(
                f"privacy.target_quantile must be in (0, 1), got {self.target_quantile}"
            )
        if not 0 < self.learning_rate < float("inf"):
            raise PrivacyError(
                f"privacy.clip_learning_rate must be positive, got {self.learning_rate}"
            )
        least = self.noise_multiplier * self._sensitivity
        if not least < self.count_std < float("inf"):
            raise PrivacyError(
                f"privacy.count_noise_std must be finite and more than {least:.4g} (the noise "
                f"multiplier times the count's sensitivity), got {self.count_std:.4g}: with less, "
                "the count alone costs more than the budget; leave it out to have it chosen"
            )

    @property
    def count_std(self) -> float:
        """Standard deviation sigma_b of the noise on the count."""
        if self.count_noise_std is not None:
            return self.count_noise_std
        return max(self.normaliser / 20, 4 * self.noise_multiplier * self._sensitivity)

    @property
    def sum_noise_multiplier(self) -> float:
        """Noise z_delta on the sum alone, in multiples of the clipping norm."""
        return self.noise_multiplier / self._weight

    def describe(self) -> dict[str, Any]:
        """What the guarantee depends on, as JSON."""
        return {
            "clipping": "adaptive",
            "target_quantile": self.target_quantile,
            "clip_learning_rate": self.learning_rate,
            "count_noise_std": self.count_std,
            "sum_noise_multiplier": self.sum_noise_multiplier,
        }

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> "AdaptiveSum":
        """Begin a noisy sum; see `Clipping.sum`."""
        device = next(iter(like.values())).device
        return AdaptiveSum(self, like, torch.as_tensor(norm, device=device), stream)

    @property
    def _sensitivity(self) -> float:
        """What one vector adds to the count at most."""
        return max(self.target_quantile, 1 - self.target_quantile)

    @property
    def _weight(self) -> float:
        """Share of the pair's norm that is the vector's; the count has the rest."""
        return float((1 - (self._count_weight * self._sensitivity) ** 2) ** 0.5)

    @property
    def _count_weight(self) -> float:
        return self.noise_multiplier / self.count_std


class AdaptiveSum:
    """A noisy sum and the next clipping norm; see `AdaptiveClipping`."""

    def __init__(
        self, clipping: AdaptiveClipping, like: Arrays, norm: Tensor, stream: SecureStream
    ) -> None:
        self._clipping, self._norm = clipping, norm
        self._pairs = NoisySum(
            {**like, _COUNT: next(iter(like.values())).new_zeros(())},
            noise_multiplier=clipping.noise_multiplier,
            max_norm=1.0,  # enforces the sensitivity that accounting assumes
            normaliser=clipping.normaliser,
            stream=stream,
        )

    def add(self, vectors: Arrays, present: Tensor) -> Tensor:
        """Clip and add n vectors; see `ClippedSum.add`."""
        clipping = self._clipping
        length = lengths(vectors)
        longer = length > self._norm
        scale = clipping._weight * (1 / length).clamp(max=1 / self._norm)  # (n,)
        scaled = {
            name: value * scale.view(-1, *[1] * (value.dim() - 1))
            for name, value in vectors.items()
        }
        count = torch.where(present, (~longer).to(length.dtype) - clipping.target_quantile, 0.0)
        self._pairs.add({**scaled, _COUNT: clipping._count_weight * count})
        return present & longer

    def finish(self) -> tuple[dict[str, Tensor], Tensor]:
        """Add the noise and divide; see `ClippedSum.finish`."""
        clipping = self._clipping
        found = self._pairs.finish()
        above = found.pop(_COUNT) / clipping._count_weight  # noisy share minus the target
        following = self._norm * torch.exp(-clipping.learning_rate * above)
        sums = {name: value * (self._norm / clipping._weight) for name, value in found.items()}
        return sums, following.clamp(_SMALLEST, _LARGEST)


def lengths(vectors: Arrays) -> Tensor:
    """L2 norm of n vectors over all of their named parts together, (n,)."""
    parts = [torch.linalg.vector_norm(value.flatten(1), dim=1) for value in vectors.values()]
    together: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return together
