"""Named random streams, which depend only on a seed and a name, not on the order of calls."""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive the seed of one named random stream.

    Args:
        seed: The user's seed; any integer, and 0 is as good as any other.
        *names: What the stream is for, e.g. ``("client", 3, "round", 7)``.

    Returns:
        An integer in ``[0, 2**63)``, the same on every platform and in every process. torch's CPU
        generator keeps its low 32 bits, so that streams collide as random numbers of 32 bits do;
        nothing that has to stay secret may come from them (see ``privacy.mechanisms.randomness``).
    """
    text = repr((int(seed), *names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Make a CPU torch generator for one named stream; see `derive_seed`.

    Examples:
        >>> import torch
        >>> a = torch.rand(2, generator=generator(0, "client", 3, "round", 7))
        >>> b = torch.rand(2, generator=generator(0, "client", 3, "round", 7))
        >>> bool((a == b).all())
        True
    """
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Make a numpy generator for one named stream; see `derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *names))
