"""The server signs what it asks sites to do, so that they obey nobody else.

Whoever can reach a SuperLink can start a run on it and send messages to its nodes: Flower knows
nodes by their keys, but asks no key of who starts a run. Sites therefore pin the server's key.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import ArrayRecord

from pfedmoap.errors import UpdateRejectedError
from pfedmoap.storage.atomic_files import write_bytes

KEY_DIGITS = 64


@dataclass(frozen=True)
class Signer:
    """A server's private key."""

    key: Ed25519PrivateKey

    @classmethod
    def kept_in(cls, file: Path) -> "Signer":
        """Read a private key, or make one where there is none; for its owner alone."""
        if not file.exists():
            fresh = Ed25519PrivateKey.generate().private_bytes_raw()
            write_bytes(file, fresh.hex().encode(), private=True)
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text())))

    @property
    def public(self) -> str:
        """The public key, in hexadecimal digits."""
        form, coding = serialization.PublicFormat.Raw, serialization.Encoding.Raw
        return self.key.public_key().public_bytes(coding, form).hex()

    def sign(self, content: bytes) -> str:
        """Sign; in hexadecimal digits."""
        return self.key.sign(content).hex()


def verify(content: bytes, signature: str, key: str) -> None:
    """Check a signature.

    Args:
        content: What was signed.
        signature: The signature, in hexadecimal digits.
        key: The public key that it has to be of.

    Raises:
        UpdateRejectedError: It is not; or the key is none.
    """
    try:
        known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        known.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError) as error:
        raise UpdateRejectedError(
            f"a message is not signed by the server's key {key[:16]!r}...: it is another server's, "
            "or the key of --server_key is wrong"
        ) from error


def digest(about: str, arrays: ArrayRecord) -> bytes:
    """What is signed of a message: its JSON, and every array's name, form, shape and bytes."""
    whole = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        array = arrays[name]
        form = repr((name, array.dtype, tuple(array.shape), array.stype))
        whole.update(hashlib.sha256(form.encode()).digest())
        whole.update(hashlib.sha256(array.data).digest())
    return whole.digest()
