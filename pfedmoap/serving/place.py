"""Where a server listens, and to whom: interface, token, certificate."""

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pfedmoap.errors import ConfigError

SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class Place:
    """Where to listen, and to whom.

    Attributes:
        host: Interface; loopback by default.
        port: 0 takes any free one.
        token: What each request must bear; ``None`` answers everybody who reaches the port.
        certificate: PEM file for TLS, the chain included; ``None`` speaks plain HTTP.
        key: PEM file of its key; ``None`` where the certificate's file holds it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None


def read_token(file: str | Path) -> str:
    """Read a bearer token from a file; white space around it does not count.

    Raises:
        ConfigError: There is no such file, or what it holds is no token.
    """
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the token cannot be read from {file}: {error}") from error
    if len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise ConfigError(
            f"{file} holds no token: expected at least {SHORTEST_TOKEN} letters, digits or signs "
            "of ASCII without white space, as `openssl rand -hex 32` prints them"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(place: Place) -> ssl.SSLContext | None:
    """Make the TLS context of a place; ``None`` where it has no certificate.

    Raises:
        ConfigError: The certificate or its key cannot be used.
    """
    if place.certificate is None:
        if place.key is not None:
            raise ConfigError("a key for TLS needs its certificate: give --ssl_certfile, too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # a password would be asked for at the terminal, where nobody need be
        context.load_cert_chain(place.certificate, place.key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"the certificate {place.certificate} and its key cannot be used: {error}; expected "
            "PEM files, the key without a password"
        ) from error
    return context
