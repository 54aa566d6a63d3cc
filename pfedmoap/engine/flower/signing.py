"""The server signs what it asks sites to do, so that they obey nobody else.

Whoever can reach a SuperLink can start a run on it and send messages to its nodes: Flower knows
nodes by their keys, but asks no key of who starts a run. Sites therefore pin the server's key.
"""

import hashlib

from flwr.app import ArrayRecord

from pfedmoap.errors import UpdateRejectedError
from pfedmoap.storage.signing import Signer, is_signed

__all__ = ["Signer", "digest", "verify"]


def verify(content: bytes, signature: str, key: str) -> None:
    """Check the signature of a message.

    Raises:
        UpdateRejectedError: It is not by this key.
    """
    if not is_signed(content, signature, key):
        raise UpdateRejectedError(
            f"a message is not signed by the server's key {key[:16]!r}...: it is another server's, "
            "or the server.pub that this site was given is wrong"
        )


def digest(kind: str, about: str, arrays: ArrayRecord) -> bytes:
    """What is signed of a message: what it asks for, its JSON, and all of every array.

    Args:
        kind: The action, as in Flower's message type: an order to evaluate, once seen, must not
            serve as one to train.
        about: The JSON.
        arrays: Each one's name, form, shape and bytes are signed.
    """
    whole = hashlib.sha256(hashlib.sha256(kind.encode()).digest() + about.encode())
    for name in sorted(arrays):
        array = arrays[name]
        form = repr((name, array.dtype, tuple(array.shape), array.stype))
        whole.update(hashlib.sha256(form.encode()).digest())
        whole.update(hashlib.sha256(array.data).digest())
    return whole.digest()
