"""SuperLink and SuperNode as processes that end when we do."""

import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pfedmoap.engine.flower.places import Address, Certificates
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import make_folder, write_bytes
from pfedmoap.wire.said import one_line

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Flower reports home, looks for updates and installs packages unless it is told not to."""
_GRACE_SECONDS = 5.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def set_offline(home: Path) -> None:
    """Keep Flower in this process and its children off the network, and its files in a folder."""
    make_folder(home, 0o700)
    os.environ.update({**OFFLINE, "FLWR_HOME": str(home)})


@contextmanager
def superlink(
    address: Address, home: Path, certificates: Certificates | None, *, keys: bool
) -> Iterator[tuple[bytes, Callable[[], None]]]:
    """Run a SuperLink that leaves running the server app to this process.

    Args:
        address: Where it listens.
        home: Flower's folder, which also takes its output.
        certificates: For TLS; ``None`` for none.
        keys: Whether nodes need a registered key.

    Yields:
        The secret that taking its tasks needs, and a check that it still runs.

    Raises:
        RunError: It ended by itself.
    """
    secret = _secret(home)
    options = ["--insecure"]
    if certificates is not None:
        options = [
            *("--ssl-certfile", str(certificates.certificate)),
            *("--ssl-keyfile", str(certificates.key)),
            *("--ssl-ca-certfile", str(certificates.root)),
        ]
    command = [
        *("flower-superlink", *options, "--isolation", "process"),
        *("--host", address.host, "--port", str(address.port)),
        *("--superexec-auth-secret-file", str(secret), "--disable-runtime-dependency-installation"),
        # Flower's older interface over gRPC cannot be switched off; nobody else's port is taken.
        *("--fleet-api-address", f"127.0.0.1:{free_port()}"),
        *("--control-api-address", f"127.0.0.1:{free_port()}"),
        *(["--enable-supernode-auth"] if keys else []),
    ]
    with _running(command, home / "superlink.log") as check:
        yield secret.read_bytes(), check


@contextmanager
def supernode(
    server: Address, home: Path, key: Path | None, config: Mapping[str, str]
) -> Iterator[tuple[Address, bytes, Callable[[], None]]]:
    """Run a SuperNode that leaves running the client app to this process.

    Args:
        server: The SuperLink.
        home: Flower's folder, which also takes its output.
        key: The site's private key; ``None`` where the server needs none.
        config: Its node's configuration.

    Yields:
        Where its tasks are taken, the secret that this needs, and a check that it still runs.
    """
    secret, port = _secret(home), free_port()
    tls = ["--insecure"] if server.root is None else ["--root-certificates", str(server.root)]
    about = " ".join(f"{name}='{value}'" for name, value in config.items())
    command = [
        *("flower-supernode", *tls, "--superlink", server.text, "--isolation", "process"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--superexec-auth-secret-file", str(secret)),
        *([] if key is None else ["--auth-supernode-private-key", str(key)]),
        *(["--node-config", about] if about else []),
    ]
    with _running(command, home / "supernode.log") as check:
        yield Address("127.0.0.1", port), secret.read_bytes(), check


def free_port() -> int:
    """Find a port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], check: Callable[[], None], seconds: float) -> None:
    """Wait for something, as long as a process runs.

    Raises:
        RunError: It did not come, or the process ended.
    """
    until = time.monotonic() + seconds
    while not ready():
        check()
        if time.monotonic() > until:
            raise RunError(f"Flower's process was not ready within {seconds:g} seconds")
        time.sleep(0.1)


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[Callable[[], None]]:
    """Run a program of this environment, and end it and all that it started."""
    program = Path(sys.executable).parent / command[0]
    make_folder(log.parent, 0o700)
    with log.open("ab") as output:
        begun = output.tell()
        process = subprocess.Popen(
            [str(program), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a session of its own, so that its children end with it
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )

    def check() -> None:
        if process.poll() is not None:
            said = log.read_bytes()[begun:].decode(errors="replace")
            raise RunError(
                f"{command[0]} ended with status {process.returncode} (see {log}): "
                + why_it_ended(said)
            )

    try:
        yield check
    finally:
        _end(process)


def why_it_ended(said: str) -> str:
    r"""Find in what a program of Flower wrote why it ended; else its last lines.

    Example:
        >>> why_it_ended("INFO: a\nERROR : Exit Code: 305\nno connection\n\nINFO: bye")
        'Exit Code: 305 | no connection'

    Args:
        said: All that it wrote.
    """
    lines = [_COLOURS.sub("", line).strip() for line in said.splitlines()]
    failed = [row for row, line in enumerate(lines) if re.match(r"ERROR\b", line)]
    if failed:
        until = next((row for row in range(failed[-1], len(lines)) if not lines[row]), len(lines))
        told = lines[failed[-1] : until]
        told[0] = told[0].removeprefix("ERROR").lstrip(" :")
    else:
        told = [line for line in lines if line][-3:]
    shown = " | ".join(line.rstrip(".") for line in told[:5])
    if "Failed to activate SuperNode" in shown:
        shown += (
            ". The server does not know its key: it is still starting, or its operator has yet to "
            "add the key with make-keys"
        )
    return one_line(shown)


def _end_with_parent() -> None:
    """Have Linux end this process when its parent dies, however it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process group to end, and make it end where it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _secret(home: Path) -> Path:
    file = home / "tasks.secret"
    write_bytes(file, secrets.token_bytes(32), private=True)
    return file
