"""Clip, sum, add Gaussian noise: used by all mechanisms."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from pfedmoap.data.decoding import cores
from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays
from privacy.mechanisms.randomness import AT_ONCE, SecureStream

_FINE = 2.0**-32  # spacing, in standard deviations, on which sums and noise are added exactly
_COARSE = 2.0**-10  # spacing, in standard deviations, of what comes out
_ROUNDOFF = 2.0**-20  # share of the clipping norm that is left to float64's errors


class NoisySum:
    """A noisy sum of vectors, each clipped over all of its named parts together.

    The sum changes by at most ``max_norm`` in l2 when one vector is added or removed; the noise's
    standard deviation is ``noise_multiplier * max_norm``. Opacus clips and sums; the noise is a
    stream cipher's. **Not covered**: the vectors' number, where it shows in the running time.

    The spacing of floating point numbers can reveal private data (Mironov, CCS 2012).
    Three things keep this from happening; docs/privacy.md has the argument in full:

    - Vectors are clipped and summed in float64, to a norm that is smaller than ``max_norm`` by all
      that rounding can add.
    - The sum and the noise are rounded to the same fine grid, where they are added without error:
      what comes out is a function of the exact sum of the two.
    - It is then rounded to a coarse grid, which depends on nothing secret. Noise is within 2^-43
      standard deviations of a Gaussian number; a cell of the grid is 2^32 times as wide or wider,
      so that its probability is the Gaussian's up to a factor of 1 +- 2^-31, for every sum.

    Each noise value sums four draws as in Opacus' secure mode (Holohan and Braghin, arXiv
    2107.10138), so that even the noise itself, if it were known, would not yield the draws.

    Args:
        like: Named tensors of the vectors' shapes; their values do not matter.
        noise_multiplier: Noise in multiples of ``max_norm``.
        max_norm: Clipping norm.
        normaliser: Public number that the noisy sum is divided by.
        stream: Where the noise comes from.

    Examples:
        >>> zero = {"prompt": torch.zeros(2)}
        >>> total = NoisySum(
        ...     zero,
        ...     noise_multiplier=0.0,
        ...     max_norm=1.0,
        ...     normaliser=2.0,
        ...     stream=SecureStream(bytes(32)),
        ... )
        >>> total.add({"prompt": torch.tensor([[3.0, 4.0], [0.0, 0.5]])})
        >>> total.finish()["prompt"]
        tensor([0.3000, 0.6500])
    """

    def __init__(
        self,
        like: Arrays,
        *,
        noise_multiplier: float,
        max_norm: float,
        normaliser: float,
        stream: SecureStream,
    ) -> None:
        from opacus.optimizers import DPOptimizer  # takes a second

        self._dtypes = {name: value.dtype for name, value in like.items()}
        self._params = {name: nn.Parameter(value.detach().double()) for name, value in like.items()}
        self._std = noise_multiplier * max_norm
        self._stream: SecureStream | None = stream
        self._empty = True
        self._optimiser = DPOptimizer(
            torch.optim.SGD(list(self._params.values()), lr=0.0),  # forms gradients, never steps
            noise_multiplier=noise_multiplier,
            max_grad_norm=bound(max_norm, self._std, sum(v.numel() for v in like.values())),
            expected_batch_size=normaliser,
        )

    def add(self, vectors: Arrays) -> None:
        """Clip and add n vectors, given as named tensors, each (n, ...).

        A vector with a number that is not finite adds zero: scaled by a clipping factor of zero it
        would be no number, and neither would the whole sum.
        """
        kept = finite({name: vectors[name] for name in self._params})
        for name, parameter in self._params.items():
            parameter.grad_sample = kept[name].double()  # type: ignore[attr-defined]  # Opacus'
        self._optimiser.clip_and_accumulate()
        self._empty = False

    def finish(self) -> dict[str, Tensor]:
        """Add the noise and divide; each of the shape and dtype of ``like``.

        Raises:
            PrivacyError: It was finished before: two noises on one sum would average out.
        """
        if self._stream is None:
            raise PrivacyError("this noisy sum was finished before: form a new one for each step")
        stream, self._stream = self._stream, None
        if self._empty:  # noise alone comes out
            self.add(
                {name: value.new_zeros(0, *value.shape) for name, value in self._params.items()}
            )
        sums = {name: value.summed_grad for name, value in self._params.items()}  # type: ignore[attr-defined]
        for name, noisy in add_noise(sums, self._std, stream).items():
            self._params[name].grad = noisy
        self._optimiser.scale_grad()
        return {
            name: value.grad.to(self._dtypes[name])
            for name, value in self._params.items()
            if value.grad is not None
        }


def finite(vectors: Arrays) -> dict[str, Tensor]:
    """Set vectors, named tensors (n, ...), to zero as a whole where any part is not finite."""
    parts = [value[..., None].flatten(1).isfinite().all(1) for value in vectors.values()]
    keep = torch.stack(parts).all(0)  # (n,)
    return {
        name: torch.where(keep.view(-1, *[1] * (value.dim() - 1)), value, 0.0)
        for name, value in vectors.items()
    }


def add_noise(sums: Arrays, std: float, stream: SecureStream) -> dict[str, Tensor]:
    """Add Gaussian noise on the fine grid and round the result to the coarse one.

    Exact while a sum stays below 2^20 standard deviations.

    Args:
        sums: Named sums of any shapes, float64, on one device.
        std: Standard deviation of the noise; 0 adds none and rounds nothing.
        stream: Where the noise comes from.

    Returns:
        Noisy sums of the same shapes, multiples of ``spacing(std, 2**-10)``.
    """
    if std == 0:
        return dict(sums)
    noise = draw_noise(std, sum(value.numel() for value in sums.values()), stream)
    return noised(sums, std, noise.to(next(iter(sums.values())).device))  # one copy


def draw_noise(std: float, size: int, stream: SecureStream) -> Tensor:
    """Draw noise on the fine grid, float64 (size,) on the CPU; ``std`` is above 0."""
    fine = spacing(std, _FINE)
    parts = stream.normal(4, size).split(AT_ONCE, dim=1)
    sums = [part.sum(0).mul_(std / 2).div_(fine).round_().mul_(fine) for part in parts]
    return torch.cat(sums)


def draw_noises(
    std: float, size: int, streams: Sequence[SecureStream], device: torch.device
) -> Tensor:
    """Draw the noise of K sums on the CPU, each from its own stream; see `draw_noise`.

    For a GPU, which would wait for it, on as many threads as there are cores, into memory that it
    copies from by itself. What is drawn is the same.

    Args:
        std: Standard deviation, above 0.
        size: Numbers of one sum.
        streams: Where the noise of each of K sums comes from.
        device: Where it is added.

    Returns:
        float64 (K, size), on the CPU.
    """
    pinned = device.type == "cuda"
    found = torch.empty(len(streams), size, dtype=torch.float64, pin_memory=pinned)

    def draw(row: int) -> None:
        found[row] = draw_noise(std, size, streams[row])

    if device.type == "cpu" or len(streams) < 2:
        for row in range(len(streams)):
            draw(row)
    else:
        with ThreadPoolExecutor(min(len(streams), cores())) as pool:
            list(pool.map(draw, range(len(streams))))
    return found


def noised(sums: Arrays, std: float, noise: Tensor) -> dict[str, Tensor]:
    """Add noise that `draw_noise` has drawn, (size,), to named sums of that size together."""
    fine, coarse = spacing(std, _FINE), spacing(std, _COARSE)
    parts = noise.split([value.numel() for value in sums.values()])
    return {
        name: (((value / fine).round() * fine + part.view_as(value)) / coarse).round() * coarse
        for (name, value), part in zip(sums.items(), parts, strict=True)
    }


def bound(max_norm: float, std: float, size: int) -> float:
    """What vectors of ``size`` numbers are clipped to, so that roundoff stays within the norm."""
    rounding = spacing(std, _FINE) * math.sqrt(size)  # of two sums, to the fine grid
    return max(0.0, max_norm * (1 - _ROUNDOFF) - rounding)


def clipped_sum(vectors: Arrays, most: float) -> dict[str, Tensor]:
    """Clip n vectors over all of their parts together, each (n, ...), and sum them, in float64.

    What Opacus' ``DPOptimizer.clip_and_accumulate`` computes, as a function, so that it can be
    mapped over clients.

    Args:
        vectors: Named tensors, each (n, ...), all of them finite.
        most: What `bound` has returned.
    """
    kept = {name: value.double() for name, value in vectors.items()}
    flat = [value[..., None].flatten(1) for value in kept.values()]
    parts = [torch.linalg.vector_norm(value, dim=1) for value in flat]
    length = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    factor = (most / (length + 1e-6)).clamp(max=1.0)
    return {name: torch.einsum("i,i...", factor, value) for name, value in kept.items()}


def spacing(std: float, share: float) -> float:
    """Return the largest power of two that is at most ``share`` of a standard deviation."""
    return 2.0 ** math.floor(math.log2(std * share)) if std > 0 else 0.0
