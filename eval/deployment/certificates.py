"""An authority, a server certificate and sites' keys for a federation among friends, or a test."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pfedmoap.engine.flower.members import check_name
from pfedmoap.engine.flower.places import Certificates
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.signing import Signer

_DAYS = 365


def make_keys(folder: Path, hosts: Sequence[str], sites: Sequence[str]) -> None:
    """Make all files of a federation's security; those that are there stay as they are.

    ```
    ca.pem                 goes to every site: it checks the server's certificate with it
    server.pem, server-key.pem    stay at the server
    server.key             the server's key that signs orders; stays there
    server.pub             goes to every site: it checks orders with it
    sites/NAME.pub         stay at the server: who may take part
    private/NAME.key       each goes to its own site, and is deleted here
    ```

    The authority's own key is thrown away: a new server certificate needs a new authority.

    Args:
        folder: Where they go.
        hosts: Names and numbers under which sites reach the server.
        sites: The sites' names.
    """
    if not (folder / "ca.pem").exists():
        _make_certificate(folder, hosts)
    signer = Signer.kept_in(folder / "server.key")
    write_bytes(folder / "server.pub", signer.public.encode())
    for site in sites:
        private, public = folder / "private" / f"{check_name(site)}.key", f"sites/{site}.pub"
        if not (folder / public).exists():
            key = ec.generate_private_key(ec.SECP384R1())
            form = serialization.PrivateFormat.OpenSSH
            write_bytes(private, _pem(key, form), private=True)
            coding = serialization.Encoding.OpenSSH
            ssh = key.public_key().public_bytes(coding, serialization.PublicFormat.OpenSSH)
            write_bytes(folder / public, ssh)


def certificates_in(folder: Path) -> Certificates:
    """The server's TLS files in a folder of `make_keys`."""
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")


def _make_certificate(folder: Path, hosts: Sequence[str]) -> None:
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        for name in ("pFedMoAP federation", "pFedMoAP server")
    ]
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=_DAYS)

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(names[0])
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(now).not_valid_after(until)

    root = (
        begun(names[0], authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(*(n in (5, 6) for n in range(9))), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), False)
        .sign(authority, hashes.SHA256())
    )
    own = (
        begun(names[1], server)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False
        )
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(authority, hashes.SHA256())
    )
    coding = serialization.Encoding.PEM
    form = serialization.PrivateFormat.TraditionalOpenSSL
    write_bytes(folder / "server-key.pem", _pem(server, form), private=True)
    write_bytes(folder / "server.pem", own.public_bytes(coding) + root.public_bytes(coding))
    write_bytes(folder / "ca.pem", root.public_bytes(coding))


def _pem(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
