"""A SuperLink's control interface: letting sites' nodes in by their keys, and starting the run."""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.build import build_fab_from_disk
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from pfedmoap.engine.flower.members import check_name
from pfedmoap.engine.flower.places import Address
from pfedmoap.errors import RunError

logger = logging.getLogger(__name__)


@dataclass
class Control:
    """The control interface of one SuperLink.

    Attributes:
        address: Where it is.
        sites: Folder of the sites' public keys, ``NAME.pub`` each; ``None`` lets everybody in.
        keys: Name of the site of each key that was let in.
    """

    address: Address
    sites: Path | None = None
    keys: dict[bytes, str] = field(default_factory=dict)

    def ready(self) -> bool:
        """Whether the SuperLink answers."""
        scheme = "http" if self.address.insecure else "https"
        verify: Any = (
            False if self.address.root is None else str(self.address.root)
        )  # as httpx has it
        try:
            httpx.get(f"{scheme}://{self.address.text}/", verify=verify, timeout=5)
        except httpx.HTTPError:
            return False
        return True

    def let_in(self) -> None:
        """Register the keys of sites that were added to the folder since it was looked at.

        Raises:
            RunError: A file there holds no public key.
        """
        if self.sites is None:
            return
        for file in sorted(self.sites.glob("*.pub")):
            name, key = check_name(file.stem), public_key(file)
            if key not in self.keys:
                with self._client() as client:
                    client.RegisterNode(RegisterNodeRequest(public_key=key, name=name))
                self.keys[key] = name
                logger.info("site %s may join", name)

    def start(self, app: Path) -> int:
        """Start the run.

        Args:
            app: Folder of a Flower app.

        Returns:
            Flower's number of the run.

        Raises:
            RunError: It was not started.
        """
        try:
            content = build_fab_from_disk(app)
        except ValueError as error:
            raise RunError(f"{app} is no Flower app: {error}") from error
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(fab=fab_to_proto(fab))
        with self._client() as client:
            answer = client.StartRun(request)
        if not answer.HasField("run_id"):
            raise RunError(f"the SuperLink at {self.address.text} did not start the run")
        return int(answer.run_id)

    def _client(self) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            self.address.text,
            self.address.insecure,
            self.address.root_bytes,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
        )


def public_key(file: Path) -> bytes:
    """Read a site's public key, in the form in which Flower compares keys.

    Raises:
        RunError: There is none in the file.
    """
    try:
        key = serialization.load_ssh_public_key(file.read_bytes())
    except ValueError as error:
        raise RunError(f"{file} holds no public key ({error}); see pfedmoap make-keys") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RunError(f"{file} holds another kind of key than Flower takes; see make-keys")
    form, coding = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.PEM
    return key.public_bytes(coding, form)
