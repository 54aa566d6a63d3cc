"""Clipping norms that follow a quantile of the lengths, at the price of a noisy count."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays
from privacy.mechanisms.clipping import ClippedSum, Rule, lengths
from privacy.mechanisms.randomness import SecureStream

_COUNT = "clipping.count"  # beside the vector's own parts, none of which has such a name
_SMALLEST, _LARGEST = 1e-6, 1e6  # bounds of an adaptive norm, which may follow noise alone


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

    def sum(self, like: Arrays, norm: Tensor | float, stream: SecureStream) -> ClippedSum:
        """Begin a noisy sum; see `Clipping.sum`."""
        device = next(iter(like.values())).device
        return ClippedSum(self, like, torch.as_tensor(norm, device=device), stream)

    def summed(self, like: Arrays) -> Arrays:
        """The vectors and the count of those within the norm."""
        return {**like, _COUNT: next(iter(like.values())).new_zeros(())}

    def limit(self, norm: Tensor | float) -> float:
        """The sensitivity of a pair, which accounting assumes."""
        del norm
        return 1.0

    def prepare(
        self, vectors: Arrays, norm: Tensor | float, present: Tensor
    ) -> tuple[Arrays, Tensor]:
        """Scale the vectors, and count beside them; see `Clipping.prepare`."""
        length = lengths(vectors)
        longer = length > norm
        scale = self._weight * (1 / length).clamp(max=1 / norm)  # (n,)
        scaled = {
            name: value * scale.view(-1, *[1] * (value.dim() - 1))
            for name, value in vectors.items()
        }
        count = torch.where(present, (~longer).to(length.dtype) - self.target_quantile, 0.0)
        return {**scaled, _COUNT: self._count_weight * count}, present & longer

    def conclude(
        self, found: Arrays, norm: Tensor | float
    ) -> tuple[dict[str, Tensor], Tensor | float]:
        """Take the count out and move the norm; see `Clipping.conclude`."""
        above = found[_COUNT] / self._count_weight  # noisy share minus the target
        following = norm * torch.exp(-self.learning_rate * above)
        sums = {n: value * (norm / self._weight) for n, value in found.items() if n != _COUNT}
        return sums, following.clamp(_SMALLEST, _LARGEST)

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


class ClippingOptions(Protocol):
    """What the options of a mode that clips say of its norm."""

    @property
    def clipping(self) -> Rule:
        """Whether the norm is fixed or adapts."""
        ...

    @property
    def target_quantile(self) -> float:
        """See `AdaptiveClipping`, as for the rest."""
        ...

    @property
    def clip_learning_rate(self) -> float:
        """Its ``learning_rate``."""
        ...

    @property
    def count_noise_std(self) -> float | None:
        """Noise on the count."""
        ...


def adaptive_clipping(
    options: ClippingOptions, noise_multiplier: float, normaliser: float
) -> AdaptiveClipping | None:
    """Make the rule that a norm adapts by; ``None`` where it is fixed.

    Args:
        options: The chosen options.
        noise_multiplier: Noise that is accounted with.
        normaliser: Public number that noisy sums are divided by.

    Raises:
        PrivacyError: The options allow no accounting.
    """
    if options.clipping == "fixed":
        return None
    return AdaptiveClipping(
        options.target_quantile,
        options.clip_learning_rate,
        noise_multiplier,
        normaliser,
        options.count_noise_std,
    )
