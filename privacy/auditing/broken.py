"""Deliberately broken mechanisms, each with a fault that was seen in released code.

They exist for the audit only, which has to detect all of them.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.problem import Problem
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.mechanisms.mechanism import Mechanism, SampledGaussian
from privacy.mechanisms.noisy_sum import NoisySum
from privacy.mechanisms.randomness import KEY_BYTES, Randomness, SecureStream

_UNBOUNDED = 1e9  # a clipping norm that no gradient reaches


@dataclass(frozen=True)
class MeanClipped:
    """Clips the batch's mean gradient in place of each example's.

    Attributes:
        real: The correct mechanism that it imitates.
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
    """Adds noise to the prompt, but trains the gate that its gradient depends on without noise.

    Attributes:
        real: The correct mechanism that it imitates.
    """

    real: SampledGaussian

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `Mechanism.gradients`."""
        private, loss = self.real.gradients(problem, params, batch, noise)
        plain, _ = NoPrivacy().gradients(problem, params, batch)
        return {n: private[n] if n == "context" else plain[n] for n in params}, loss


@dataclass(frozen=True)
class DividedByData:
    """Divides the noisy sum by the number of examples, which is private.

    Attributes:
        real: The correct mechanism that it imitates.
        sizes: Number of examples of each client's data set; ``None`` counts those of the batch.
        sample_rate: What a data set's size is multiplied by.
    """

    real: SampledGaussian
    sizes: Mapping[ClientId, int] | None
    sample_rate: float

    def gradients(
        self, problem: Problem, params: Arrays, batch: Batch, noise: Sequence[SecureStream]
    ) -> tuple[Arrays, Tensor]:
        """Form gradients; see `Mechanism.gradients`."""
        found, loss = self.real.gradients(problem, params, batch, noise)
        if self.sizes is None:
            counts = (batch.weight > 0).sum(1).clamp(min=1).to(loss)
        else:
            own = [self.sample_rate * self.sizes[stream.client] for stream in batch.streams]
            counts = torch.tensor(own).to(loss)
        factor = self.real.normaliser / counts
        return {
            name: value * factor.view(-1, *[1] * (value.dim() - 1)) for name, value in found.items()
        }, loss


@dataclass(frozen=True)
class SmallSeeds:
    """Streams whose keys come from a small seed, such as a time or a process id.

    Attributes:
        seeds: How many there are.
    """

    seeds: int

    def stream(self, *names: str | int) -> SecureStream:
        """Start a stream; see `Randomness.stream`."""
        del names
        return SecureStream(secrets.randbelow(self.seeds).to_bytes(KEY_BYTES, "little"))


@dataclass(frozen=True)
class OneStream:
    """Returns the same stream every time, like a seed that is set before every step.

    Attributes:
        key: Its key.
    """

    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES))

    def stream(self, *names: str | int) -> SecureStream:
        """Start the stream; see `Randomness.stream`."""
        del names
        return SecureStream(self.key)


def broken_randomness(seeds: int) -> dict[str, Randomness]:
    """Sources of noise that break any mechanism, by what is wrong with them.

    Args:
        seeds: How many seeds the predictable one has.
    """
    return {
        "predictable seed": cast(Randomness, SmallSeeds(seeds)),  # all that a mechanism asks of it
        "repeated noise": cast(Randomness, OneStream()),
    }


def broken_variants(
    real: SampledGaussian, sizes: Mapping[ClientId, int], sample_rate: float
) -> dict[str, Mechanism]:
    """Broken variants of a mechanism that need no gate, by what is wrong with them.

    Args:
        real: The mechanism.
        sizes: Number of examples of each client.
        sample_rate: The sampling rate.
    """
    unclipped = replace(
        real,
        max_grad_norm=_UNBOUNDED,
        noise_multiplier=real.noise_multiplier * real.max_grad_norm / _UNBOUNDED,
    )
    on_mean = replace(real, noise_multiplier=real.noise_multiplier / real.normaliser)
    return {
        "no clipping": unclipped,
        "a tenth of the noise": replace(real, noise_multiplier=real.noise_multiplier / 10),
        "noise on the mean": on_mean,
        "batch mean clipped": MeanClipped(real),
        "divided by the batch's size": DividedByData(real, None, sample_rate),
        "divided by the data set's size": DividedByData(real, sizes, sample_rate),
    }
