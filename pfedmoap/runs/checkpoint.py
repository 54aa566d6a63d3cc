"""The state after a complete round, and the files that it is kept in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pfedmoap.runs.checksums import warn_without_checksums
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.manifest import Manifest, round_of, state_file
from pfedmoap.runs.state_files import Owner, read_state, write_state
from pfedmoap.wire.messages import Arrays, ClientId


@dataclass(frozen=True)
class Checkpoint:
    """The state after a complete round.

    Attributes:
        round: The last complete round; 0 before the first.
        server: The server's state.
        local_states: Each client's own state; clients that never took part are absent.
        charges: How many charges each client's privacy ledger held then; a ledger that holds fewer
            has been rolled back. Clients without a ledger are absent.
        privacy: State of the privatizer's server side; see `ServerSide.state`.
    """

    round: int
    server: Arrays
    local_states: Mapping[ClientId, Arrays]
    charges: Mapping[ClientId, int] = field(default_factory=dict)
    privacy: Mapping[str, float] = field(default_factory=dict)


def write_states(
    layout: Layout, before: Manifest, checkpoint: Checkpoint, trained: Sequence[ClientId]
) -> Manifest:
    """Write a round's state files under names of their own; this commits nothing.

    Args:
        layout: Where the run's files are.
        before: The manifest of the last round.
        checkpoint: The state after the round.
        trained: Clients whose state changed; only theirs is written.

    Returns:
        The round's manifest, still with the log lines of the last round.
    """
    name = state_file(checkpoint.round)
    server = f"server/{name}"
    owner = Owner(None, checkpoint.round)
    written = {server: write_state(layout.where(server), checkpoint.server, owner)}
    clients = dict(before.clients)
    for client in trained:
        file = clients[client] = f"clients/{client:04d}/{name}"
        owner = Owner(client, checkpoint.round)
        place, state = layout.where(file), checkpoint.local_states[client]
        written[file] = write_state(place, state, owner, private=layout.divided)
    kept = {server, *clients.values()}
    sums = {
        file: found
        for file, found in before.sha256.items()
        if file in kept or file not in before.files
    }
    return Manifest(
        checkpoint.round,
        server,
        clients,
        checkpoint.charges,
        checkpoint.privacy,
        sha256={**sums, **written},
        lines=before.lines,
    )


def read_checkpoint(layout: Layout, manifest: Manifest) -> Checkpoint | None:
    """Read the state that a manifest names; ``None`` before the first complete round.

    Raises:
        RunError: A file of it is damaged.
    """
    if manifest.server is None:
        return None
    return Checkpoint(
        round=manifest.round,
        server=read_named(layout, manifest, manifest.server, None),
        local_states={
            client: read_named(layout, manifest, file, client)
            for client, file in sorted(manifest.clients.items())
        },
        charges=manifest.charges,
        privacy=manifest.privacy,
    )


def read_named(layout: Layout, manifest: Manifest, file: str, client: ClientId | None) -> Arrays:
    """Read one state file that a manifest names.

    Args:
        layout: Where the run's files are.
        manifest: The manifest.
        file: The file, as the manifest names it.
        client: Whose it must be; ``None`` for the server.

    Raises:
        RunError: It is damaged.
    """
    if not manifest.sealed:
        warn_without_checksums(layout.run)
    return read_state(layout.where(file), Owner(client, round_of(file)), manifest.sha256.get(file))
