"""Search for predictable noise: try every seed of a small seed space.

Noise protects data only if it cannot be reproduced. If a generator starts from a small number (a
time, a process id, 32 bits of a Mersenne Twister), all starts can be tried. The auditor knows the
code, and therefore how noise would be drawn from each seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.stats import norm
from torch import Tensor

from privacy.mechanisms.randomness import KEY_BYTES, SecureStream

SEEDS = 2**12
_COORDINATES = 256  # of each candidate that are compared first
_SIGNIFICANCE = 1e-12  # that a candidate looks like the noise by chance, over all seeds


def plain_gaussian(seed: int, size: int) -> Tensor:
    """Draw noise as most code does, from torch's generator with a seed, (d,)."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def summed_gaussian(seed: int, size: int) -> Tensor:
    """Draw noise like Opacus' secure mode, from torch's generator with a seed, (d,)."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(1, 1, generator=generator)
    return torch.stack([torch.randn(size, generator=generator) for _ in range(4)]).sum(0) / 2


def ciphered_gaussian(seed: int, size: int) -> Tensor:
    """Draw noise of this package's cipher with a small number as the key, (d,)."""
    stream = SecureStream(seed.to_bytes(KEY_BYTES, "little"))
    return stream.normal(4, size).sum(0).float() / 2


Source = Callable[[int, int], Tensor]


@dataclass
class SeedSearch:
    """Looks for the seed of noise.

    Attributes:
        sources: How noise is drawn from a seed and a size; each is tried with every seed.
        seeds: Seeds from 0 to this are tried.
    """

    sources: tuple[Source, ...] = (plain_gaussian, summed_gaussian, ciphered_gaussian)
    seeds: int = SEEDS
    _tables: dict[int, list[Tensor]] = field(default_factory=dict)

    def find(self, noisy: Tensor) -> Tensor | None:
        """Find the noise in a vector.

        Args:
            noisy: Signal plus noise of any strength, (d,).

        Returns:
            The noise up to its strength, (d,); ``None`` where no seed explains the vector.
        """
        size = len(noisy)
        head = noisy[:_COORDINATES]
        for source, table in zip(self.sources, self._candidates(size), strict=True):
            best = int((table @ head).abs().argmax())
            noise = source(best, size)
            alike = float(torch.cosine_similarity(noise, noisy, dim=0).abs())
            z = math.atanh(min(alike, 1 - 1e-9)) * math.sqrt(max(1, size - 3))  # Fisher's
            if 2 * self.seeds * len(self.sources) * norm.sf(z) < _SIGNIFICANCE:
                return noise
        return None

    def _candidates(self, size: int) -> list[Tensor]:
        """Heads of all candidates, unit vectors, (seeds, coordinates) of each source."""
        if size not in self._tables:
            self._tables[size] = []
            for source in self.sources:
                heads = torch.stack([source(s, size)[:_COORDINATES] for s in range(self.seeds)])
                self._tables[size].append(heads / heads.norm(dim=1, keepdim=True))
        return self._tables[size]
