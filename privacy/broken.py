"""Mechanisms that break privacy on purpose, each in a way that was seen in released code.

They exist for the audit alone: a check that cannot tell these from the real one is worth nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pfedmoap.batches import Batch
from pfedmoap.gradients import NoPrivacy, Problem
from pfedmoap.types import Arrays
from privacy.mechanism import Mechanism, SampledGaussian
from privacy.noisy_sum import NoisySum
from privacy.randomness import SecureStream

_UNBOUNDED = 1e9  # a clipping norm that no gradient reaches


@dataclass(frozen=True)
class MeanClipped:
    """Clips the batch's mean gradient in place of each example's.

    Attributes:
        real: The mechanism that it pretends to be.
    """

    real: SampledGaussian

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `Mechanism.gradients`."""
        means, loss = NoPrivacy().gradients(problem, params, batch)
        rows = []
        for row, stream in enumerate(noise):
            own = {name: value[row] for name, value in means.items()}
            total = NoisySum(
                own,
                noise_multiplier=self.real.noise_multiplier / self.real.normaliser,
                max_norm=self.real.max_grad_norm,
                normaliser=1,
                stream=stream,
            )
            total.add({name: value[None] for name, value in own.items()})
            rows.append(total.finish())
        return {name: torch.stack([row[name] for row in rows]) for name in params}, loss


@dataclass(frozen=True)
class GateWithoutNoise:
    """Noises the prompt, but lets the gate that the prompt's gradient flows through go free.

    Attributes:
        real: The mechanism that it pretends to be.
    """

    real: SampledGaussian

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `Mechanism.gradients`."""
        private, loss = self.real.gradients(problem, params, batch, noise)
        plain, _ = NoPrivacy().gradients(problem, params, batch)
        return {n: private[n] if n == "context" else plain[n] for n in params}, loss


def broken_variants(real: SampledGaussian) -> dict[str, Mechanism]:
    """Broken variants of a mechanism that need no gate, by what is wrong with them."""
    unclipped = replace(
        real,
        max_grad_norm=_UNBOUNDED,
        noise_multiplier=real.noise_multiplier * real.max_grad_norm / _UNBOUNDED,
    )
    return {
        "no clipping": unclipped,
        "a tenth of the noise": replace(real, noise_multiplier=real.noise_multiplier / 10),
        "batch mean clipped": MeanClipped(real),
    }
