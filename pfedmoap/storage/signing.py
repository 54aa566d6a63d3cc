"""Signing with a key of the operator's own, which shows that something is theirs and unchanged."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import write_bytes


@dataclass(frozen=True)
class Signer:
    """A private key."""

    key: Ed25519PrivateKey

    @classmethod
    def kept_in(cls, file: Path) -> "Signer":
        """Read a private key, or make one where there is none; for its owner alone.

        Raises:
            RunError: The file holds something else.
        """
        if not file.exists():
            fresh = Ed25519PrivateKey.generate().private_bytes_raw()
            write_bytes(file, fresh.hex().encode(), private=True)
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text())))
        except ValueError as error:
            raise RunError(f"{file} holds no signing key ({error}); restore it") from error

    @property
    def public(self) -> str:
        """The public key, in hexadecimal digits."""
        form, coding = serialization.PublicFormat.Raw, serialization.Encoding.Raw
        return self.key.public_key().public_bytes(coding, form).hex()

    def sign(self, content: bytes) -> str:
        """Sign; in hexadecimal digits."""
        return self.key.sign(content).hex()


def is_signed(content: bytes, signature: str, key: str) -> bool:
    """Check a signature.

    Args:
        content: What was signed.
        signature: The signature, in hexadecimal digits.
        key: The public key that it has to be of, in hexadecimal digits.
    """
    try:
        known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        known.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
