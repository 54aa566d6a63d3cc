"""Tests of the noise in an auditor's observations, after subtracting all known signal.

Sound noise is independent between vectors, has the claimed strength for every client, and cannot
be reproduced from a guessed generator state. All of this can be tested on the vectors themselves.
"""

import math
from dataclasses import dataclass, field

import torch
from scipy.stats import chi2, norm
from torch import Tensor

from pfedmoap.wire.messages import ClientId
from privacy.auditing.seed_search import SeedSearch

SIGNIFICANCE = 1e-6  # of each of the checks below: sound noise fails one in a million audits
_KEPT = 256  # vectors whose independence is tested; more would only cost time


@dataclass(frozen=True)
class NoiseFindings:
    """Properties of the noise.

    Attributes:
        vectors: Number of noisy vectors.
        predicted: How many of them had noise that the search found and subtracted.
        strength: Measured standard deviation over the claimed one.
        too_weak: Whether it is significantly below 1.
        uneven: Whether it differs between clients, which only their data can cause.
        repeated: Whether vectors share noise.
        similarity: The largest correlation of two vectors' noise, by absolute value.
    """

    vectors: int
    predicted: int
    strength: float
    too_weak: bool
    uneven: bool
    repeated: bool
    similarity: float

    @property
    def flaws(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        found = {
            "its seed was found": self.predicted > 0,
            "it repeats": self.repeated,
            "it is weaker than claimed": self.too_weak,
            "its strength depends on the data": self.uneven,
        }
        return tuple(words for words, wrong in found.items() if wrong)


@dataclass
class NoiseRows:
    """Collects noisy vectors.

    Attributes:
        search: Tries to find the noise by the seed it came from.
    """

    search: SeedSearch
    vectors: int = 0
    predicted: int = 0
    _squares: dict[ClientId, float] = field(default_factory=dict)
    _freedom: dict[ClientId, int] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)

    def add(self, client: ClientId, noisy: Tensor, known: Tensor, unknown: Tensor) -> Tensor:
        """Take one noisy vector.

        Args:
            client: Whose it is.
            noisy: Signal plus noise, (d,).
            known: Vectors that the signal may hold and the auditor knows, (n, d).
            unknown: Orthonormal directions of what the auditor looks for, (m, d).

        Returns:
            The vector without found noise and without all that lies in the known span, (d,).
        """
        self.vectors += 1
        noise = self.search.find(noisy)
        self.predicted += noise is not None
        if noise is not None:
            noisy = noisy - (noisy @ noise) / (noise @ noise) * noise
        basis = span(known)
        clean = noisy - basis @ (basis.mT @ noisy)
        if noise is None:
            rest = span(torch.cat([basis.mT, unknown]))
            left = noisy - rest @ (rest.mT @ noisy)
            freedom = len(left) - rest.shape[1]
            self._squares[client] = self._squares.get(client, 0.0) + float(left.square().sum())
            self._freedom[client] = self._freedom.get(client, 0) + freedom
            if len(self._kept) < _KEPT:
                self._kept.append(left / left.norm().clamp(min=1e-30) * math.sqrt(freedom))
        return clean

    def findings(self, claimed_std: float) -> NoiseFindings:
        """Test the noise; see `NoiseFindings`.

        Args:
            claimed_std: Standard deviation of each coordinate's noise by the claim.
        """
        total, freedom = sum(self._squares.values()), sum(self._freedom.values())
        strength = math.sqrt(total / freedom) / claimed_std if freedom else 1.0
        similarity, repeated = self._similarity()
        # (s^2 / sigma^2 - 1) sqrt(n / 2) is standard normal for n degrees of freedom, nearly
        different = freedom / len(self._kept) if repeated else freedom
        z = (strength**2 - 1) * math.sqrt(different / 2)
        return NoiseFindings(
            vectors=self.vectors,
            predicted=self.predicted,
            strength=strength,
            too_weak=bool(norm.cdf(z) < SIGNIFICANCE),
            uneven=self._uneven(total, freedom),
            repeated=repeated,
            similarity=similarity,
        )

    def _uneven(self, total: float, freedom: int) -> bool:
        """Bartlett's test of equal variances over the clients."""
        groups = [(self._squares[c], self._freedom[c]) for c in self._squares]
        groups = [(square, n) for square, n in groups if n > 0 and square > 0]
        if len(groups) < 2:
            return False
        spread = freedom * math.log(total / freedom)
        spread -= sum(n * math.log(square / n) for square, n in groups)
        correction = sum(1 / n for _, n in groups) - 1 / freedom
        statistic = spread / (1 + correction / (3 * (len(groups) - 1)))
        return bool(chi2.sf(statistic, len(groups) - 1) < SIGNIFICANCE)

    def _similarity(self) -> tuple[float, bool]:
        """Largest correlation of two vectors, and whether chance does not explain it."""
        if len(self._kept) < 2:
            return 0.0, False
        rows = torch.stack(self._kept)
        freedom = float(rows.square().sum(1).mean())
        gram = (rows @ rows.mT / freedom).fill_diagonal_(0)
        worst = float(gram.abs().max())
        pairs = len(rows) * (len(rows) - 1)
        return worst, bool(pairs * norm.sf(worst * math.sqrt(freedom)) < SIGNIFICANCE)


def span(vectors: Tensor) -> Tensor:
    """An orthonormal basis of some vectors' span, as columns, (d, r).

    Args:
        vectors: (n, d); they may depend on each other, and there may be none.
    """
    if not len(vectors):
        return vectors.mT
    _, sizes, rows = torch.linalg.svd(vectors.double(), full_matrices=False)
    kept = sizes > 1e-6 * sizes.max().clamp(min=1e-30)
    basis: Tensor = rows[kept].mT.to(vectors.dtype)
    return basis
