"""Random numbers for sampling and noise: a stream cipher keyed by the operating system."""

import hashlib
import math
import secrets
from dataclasses import dataclass

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from pfedmoap.errors import PrivacyError

KEY_BYTES = 32  # AES-256
_BITS = 53  # of a float64's significand
_BLOCK_BYTES = 16  # of AES
_UNIT = 2.0**-_BITS
AT_ONCE = 2**14
"""Numbers of one operation: they stay in a core's cache, and torch on the thread that asks."""
_DOMAIN = b"pfedmoap insecure stream\x00"  # no other hash of ours yields one of these keys


class SecureStream:
    """Random numbers made of the keystream of AES-256 in counter mode.

    Without its key, the keystream is computationally indistinguishable from uniform bits as long
    as AES is unbroken. There are 2^256 streams, and each has 2^128 blocks. All
    numbers are made on the CPU, in float64, so that runs on all devices share them.

    Args:
        key: 32 secret bytes, which determine every draw.

    Raises:
        PrivacyError: The key is not of that length.

    Examples:
        >>> first, again = SecureStream(bytes(32)), SecureStream(bytes(32))
        >>> bool((first.uniform(2, 3) == again.uniform(2, 3)).all())
        True
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise PrivacyError(
                f"a stream's key has {KEY_BYTES} bytes, got {len(key)}: take it from Randomness.key"
            )
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, *shape: int) -> Tensor:
        """Take the next 64-bit words of the keystream, little-endian; int64 of a shape."""
        size = 8 * math.prod(shape)
        found = np.empty(size + _BLOCK_BYTES - 1, dtype=np.uint8)  # with the room that is asked for
        self._cipher.update_into(bytes(size), found.data)
        return torch.from_numpy(found[:size].view("<i8").astype(np.int64, copy=False)).view(shape)

    def uniform(self, *shape: int) -> Tensor:
        """Draw multiples of 2^-53 uniformly from [0, 1); float64 of a shape."""
        return uniform_from(self.words(*shape))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw integers uniformly from [0, high); int64 of a shape.

        No probability is off by more than 2^-53.
        """
        return (self.uniform(*shape) * high).long()  # below high: 1 - 2^-53 times high rounds down

    def permutation(self, size: int) -> Tensor:
        """Draw an order of ``size`` things; int64 (size,). Ties, of chance 2^-64, keep theirs."""
        return torch.argsort(self.words(size), stable=True)

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution; float64 of a shape. See `normal_from`."""
        count = math.prod(shape)
        half = (count + 1) // 2
        words, found = self.words(3, half), torch.empty(2, half, dtype=torch.float64)
        for start in range(0, half, AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found[:, part] = normal_from(words[:, part]).view(2, -1)
        return found.view(-1)[:count].view(shape)


def uniform_from(words: Tensor) -> Tensor:
    """Make float64 uniforms in [0, 1) of the upper 53 bits of int64 words, of the same shape."""
    return _upper(words) * _UNIT


def normal_from(words: Tensor) -> Tensor:
    """Make standard normal numbers of random words: Box and Muller (1958), in float64.

    The radius comes from a uniform number U of 106 bits and the angle from one of 53. A radius of
    53 bits would end at 8.6, and be grainy long before, and near zero, too; this one ends at 12.1,
    and its spacing exceeds 2^-46 only with probability 2^-60. U is never 0, which has no logarithm;
    where it is near 1 it is held as 1 - U, because float64 would round it to 1.

    Args:
        words: Random words, (3, ..., n) int64: two for the radius, one for the angle.

    Returns:
        float64 (..., 2 n), each within 2^-46 of what exact arithmetic gives.
    """
    high, low, turn = _upper(words).unbind()
    # In place wherever it can be: memory takes more time here than arithmetic does.
    uniform = (low + 1).mul_(_UNIT).add_(high).mul_(_UNIT)
    least = 2.0**_BITS - 1
    rest = (least - low).mul_(_UNIT).add_(least - high).mul_(_UNIT)  # 1 - U
    log = torch.where(uniform < 0.5, uniform.log(), torch.log1p(rest.neg_()))
    radius = log.mul_(-2).sqrt_()
    angle = turn * (2 * math.pi * _UNIT)
    return torch.cat([torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)], dim=-1)


def _upper(words: Tensor) -> Tensor:
    upper = words >> (64 - _BITS)
    return upper.bitwise_and_(2**_BITS - 1).double()  # the shift drags the sign along


@dataclass(frozen=True)
class Randomness:
    """Makes a random stream of its own for each draw of a mechanism.

    Without a seed, each stream has a fresh key of 256 bits from the operating system. The key is
    not stored, so that draws cannot be repeated, and no two streams share noise, also after a crash
    and in forked processes.

    Attributes:
        seed: Makes draws repeatable, and the result **not private**; ``None`` for secret keys.
    """

    seed: int | None = None

    def key(self, *names: str | int) -> bytes:
        """Make the key of one stream; see `stream`.

        With a seed it is SHA-256 of all of the seed's bits and all names.
        """
        if self.seed is None:
            return secrets.token_bytes(KEY_BYTES)
        plain = [name if isinstance(name, str) else int(name) for name in names]
        return hashlib.sha256(_DOMAIN + repr((int(self.seed), *plain)).encode()).digest()

    def stream(self, *names: str | int) -> SecureStream:
        """Start a stream.

        Args:
            *names: What it is for, e.g. ``("noise", client, round, step)``; read only with a seed.

        Returns:
            The stream.
        """
        return SecureStream(self.key(*names))
