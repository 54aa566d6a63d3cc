"""What the commands that serve have in common: where they listen, to whom, and how they end."""

from typing import Protocol

from jsonargparse import ArgumentParser, Namespace

from eval.escaping import for_terminal
from pfedmoap.errors import ConfigError
from pfedmoap.serving.place import Place, is_loopback, read_token


class Server(Protocol):
    """Whatever serves at an address."""

    @property
    def url(self) -> str:
        """The address."""
        ...

    def serve_forever(self) -> None:
        """Serve until a signal."""
        ...


def add_place(parser: ArgumentParser, port: int) -> None:
    """Add the options that say where to listen, and to whom.

    Args:
        parser: The command's.
        port: The default port.
    """
    parser.add_argument("--port", type=int, default=port, help="0 takes any free port")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="interface; any other than loopback needs --token_file or --without_token",
    )
    parser.add_argument(
        "--token_file",
        type=str | None,
        help="file with the token that each request must bear; `openssl rand -hex 32` makes one",
    )
    parser.add_argument(
        "--without_token",
        type=bool,
        default=False,
        help="answer everybody who reaches a host that is not loopback",
    )
    parser.add_argument("--ssl_certfile", type=str | None, help="PEM file: certificate for TLS")
    parser.add_argument("--ssl_keyfile", type=str | None, help="PEM file: its key")


def place_of(options: Namespace) -> Place:
    """Read the options that `add_place` added.

    Raises:
        ConfigError: The token cannot be read, or none is asked for where others reach the server.
    """
    token = None if options.token_file is None else read_token(options.token_file)
    if token is None and not (options.without_token or is_loopback(options.host)):
        raise ConfigError(
            f"everybody who reaches {options.host} could use the model: give --token_file, or "
            "--without_token where a proxy in front lets in whom it should"
        )
    return Place(options.host, options.port, token, options.ssl_certfile, options.ssl_keyfile)


def serve(server: Server, what: str) -> None:
    """Say where something is served, and serve it until a signal.

    Args:
        server: What serves.
        what: What it serves, for the line that is printed.
    """
    print(for_terminal(f"{what} at {server.url}; stop with Ctrl-C"), flush=True)
    server.serve_forever()
