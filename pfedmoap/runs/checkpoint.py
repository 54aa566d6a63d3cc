"""The state after a complete round, and the files that it is kept in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pfedmoap.contract.server_rows import ServerRows, joined
from pfedmoap.runs.checksums import warn_without_checksums
from pfedmoap.runs.client_states import ClientStates, open_rows, open_states
from pfedmoap.runs.commit import commit, with_checksums
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.manifest import SERVER, Manifest, round_of, shard_file, state_file
from pfedmoap.runs.shard_writer import StateWriter, Written
from pfedmoap.runs.state_files import Owner, read_state, write_state
from pfedmoap.wire.messages import Arrays, ClientId

GROUP_BYTES = 64 * 2**20
"""Of an earlier version's state files that are put into one shard."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after a complete round.

    Attributes:
        round: The last complete round; 0 before the first.
        server: The server's state, without its rows where there are some.
        local_states: Each client's own state; clients that never took part are absent. What was
            read from a run is on the disk: each access reads it.
        charges: How many charges each client's privacy ledger held then; a ledger that holds fewer
            has been rolled back. Clients without a ledger are absent.
        privacy: State of the privatizer's server side; see `ServerSide.state`.
        rows: What the server's state holds of single clients; ``None`` where ``server`` has all. A
            checkpoint that was read has all there.
        changed: Clients whose rows the round may have changed.
    """

    round: int
    server: Arrays
    local_states: Mapping[ClientId, Arrays]
    charges: Mapping[ClientId, int] = field(default_factory=dict)
    privacy: Mapping[str, float] = field(default_factory=dict)
    rows: ServerRows | None = None
    changed: Sequence[ClientId] = ()


@dataclass(frozen=True)
class Open:
    """A run that is being written to, by one process alone.

    Attributes:
        layout: Where its files are.
        manifest: That of the last complete round.
        writer: The clients' states.
        rows: What the server's state holds of clients; ``None`` before it is needed.
    """

    layout: Layout
    manifest: Manifest
    writer: StateWriter
    rows: StateWriter | None = None


def write_states(run: Open, checkpoint: Checkpoint, trained: Sequence[ClientId]) -> Open:
    """Write a round's state files under names of their own; this commits nothing.

    Args:
        run: The run after the last round.
        checkpoint: The state after the round.
        trained: Clients whose state changed; only theirs is read and written.

    Returns:
        The run after the round; its manifest still has the log lines of the last one.
    """
    layout, before = run.layout, run.manifest
    server = f"server/{state_file(checkpoint.round)}"
    owner = Owner(None, checkpoint.round)
    sums = {server: write_state(layout.where(server), checkpoint.server, owner)}
    states = ((client, checkpoint.local_states[client]) for client in sorted(trained))
    shard = shard_file(checkpoint.round)
    written = run.writer.write(layout, shard, checkpoint.round, states)
    rows = _write_rows(run, checkpoint)
    of_clients = () if rows is None else rows.writer.states.files
    manifest = Manifest(
        checkpoint.round,
        server,
        written.writer.states.files,
        charges=checkpoint.charges,
        privacy=checkpoint.privacy,
        sha256={
            **_kept_sums(before, (*of_clients, *written.writer.states.files)),
            **sums,
            **written.checksums,
            **({} if rows is None else rows.checksums),
        },
        lines=before.lines,
        rows=of_clients,
        owners=None if checkpoint.rows is None else checkpoint.rows.owners,
    )
    return Open(layout, manifest, written.writer, None if rows is None else rows.writer)


def _write_rows(run: Open, checkpoint: Checkpoint) -> Written | None:
    """Write what a round changed of the server's rows; all of them where none is on disk."""
    if checkpoint.rows is None:
        return None
    of, before = checkpoint.rows.of, run.rows
    if before is None:
        before = StateWriter.over(open_rows(run.layout, run.manifest))
    changed: Collection[ClientId] = {*checkpoint.changed} & of.keys()
    known = before.states
    if len(known) + sum(client not in known for client in changed) != len(of):
        before, changed = StateWriter.over(ClientStates(run.layout)), of.keys()
    file = shard_file(checkpoint.round, folder=SERVER)
    entries = ((client, of[client]) for client in sorted(changed))
    return before.write(run.layout, file, checkpoint.round, entries)


def open_to_write(layout: Layout, manifest: Manifest) -> Open:
    """Open a run for writing; one of an earlier version is given checksums and shards first.

    Args:
        layout: Where the run's files are.
        manifest: That of its last complete round.

    Raises:
        RunError: A state is damaged.
    """
    sealed = manifest.sealed or manifest.round == 0
    opened = with_shards(layout, manifest if sealed else with_checksums(layout, manifest))
    if opened.manifest != manifest:
        commit(layout, opened.manifest)
    return opened


def with_shards(layout: Layout, manifest: Manifest) -> Open:
    """Put the clients' states of a version that wrote a file for each into shards.

    Nothing is committed. A run that has shards stays as it is.

    Args:
        layout: Where the run's files are.
        manifest: Its manifest, with checksums.

    Raises:
        RunError: A state is damaged.
    """
    states = open_states(layout, manifest)
    if not manifest.clients:
        return Open(layout, manifest, StateWriter.over(states))
    writer = StateWriter.over(ClientStates(layout))
    sums: dict[str, str] = {}
    for part, clients in enumerate(_groups(layout, manifest)):
        rounds = {client: round_of(manifest.clients[client]) for client in clients}
        read = ((client, states[client]) for client in clients)
        written = writer.write(layout, shard_file(manifest.round, part), rounds, read)
        writer = written.writer
        sums |= written.checksums
    files = writer.states.files
    moved = replace(manifest, shards=files, clients={}, sha256=_kept_sums(manifest, files) | sums)
    return Open(layout, moved, writer)


def _kept_sums(before: Manifest, shards: Sequence[str]) -> dict[str, str]:
    """Checksums that stay when other state files take the place of all but some shards."""
    gone = before.files - set(shards)
    return {file: found for file, found in before.sha256.items() if file not in gone}


def _groups(layout: Layout, manifest: Manifest) -> Iterator[list[ClientId]]:
    """Divide clients with files of their own, so that each group's states fit into memory."""
    group: list[ClientId] = []
    size = 0
    for client, file in sorted(manifest.clients.items()):
        group.append(client)
        size += layout.where(file).stat().st_size
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def read_checkpoint(layout: Layout, manifest: Manifest) -> Checkpoint | None:
    """Read the state that a manifest names; ``None`` before the first complete round.

    Every file is read and checked; the clients' states are not kept in memory.

    Raises:
        RunError: A file of it is damaged.
    """
    if manifest.server is None:
        return None
    server = read_server(layout, manifest, manifest.server)
    states = open_states(layout, manifest)
    states.check()
    return Checkpoint(manifest.round, server, states, manifest.charges, manifest.privacy)


def read_server(layout: Layout, manifest: Manifest, file: str) -> Arrays:
    """Read the server's whole state, with its rows.

    Args:
        layout: Where the run's files are.
        manifest: The manifest.
        file: The server's file, as the manifest names it.

    Raises:
        RunError: It is damaged.
    """
    shared = read_named(layout, manifest, file, None)
    if manifest.owners is None:
        return shared
    return joined(shared, ServerRows(manifest.owners, open_rows(layout, manifest)))


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
