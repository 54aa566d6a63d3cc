"""Where a SuperLink is, and its TLS files; nothing here needs Flower to be installed."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pfedmoap.errors import ConfigError

INSTALL = "pip install 'pfedmoap[flower]'"


@dataclass(frozen=True)
class Address:
    """Where a SuperLink is.

    Attributes:
        host: Name or number of its machine.
        port: Its only port.
        root: Certificate that its own is checked against; ``None`` for no encryption.
    """

    host: str
    port: int
    root: Path | None = None

    @property
    def text(self) -> str:
        """In the form that Flower takes."""
        return f"{self.host}:{self.port}"

    @property
    def insecure(self) -> bool:
        """Whether nothing is encrypted."""
        return self.root is None

    @property
    def root_bytes(self) -> bytes | None:
        """The certificate."""
        return None if self.root is None else self.root.read_bytes()


@dataclass(frozen=True)
class Certificates:
    """A server's TLS files.

    Attributes:
        root: The authority's certificate.
        certificate: The server's certificate.
        key: Its private key.
    """

    root: Path
    certificate: Path
    key: Path


def require_extra() -> None:
    """Raise an error where Flower is not installed.

    Raises:
        ConfigError: It is not; the message says how to install it.
    """
    if find_spec("flwr") is None:
        raise ConfigError(f"federations of several machines need Flower: {INSTALL}")
