"""Writing all states of a run anew, so that what was taken out of them is in no file any more."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, islice

from pfedmoap.runs.checkpoint import Checkpoint
from pfedmoap.runs.client_states import ClientStates
from pfedmoap.runs.commit import commit, current_manifest
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import sweep
from pfedmoap.runs.layout import PRIVATE
from pfedmoap.runs.manifest import PREVIOUS, shard_file, state_file
from pfedmoap.runs.repair import DAMAGED
from pfedmoap.runs.shard_writer import StateWriter
from pfedmoap.runs.state_files import Owner, write_state
from pfedmoap.storage.own_files import remove_files
from pfedmoap.wire.messages import Arrays, ClientId

_TOGETHER = 256  # clients in one shard


def rewrite_states(run: RunDirectory, saved: Checkpoint, states: Mapping[ClientId, Arrays]) -> None:
    """Replace the state of a run's last round, and delete every file with an older one.

    First the clients' new states take the place of the old ones, then the server's: a kill before
    the end leaves a run that is whole, and from which less has been taken out.

    Args:
        run: The run, just resumed; no other process may be writing to it.
        saved: Its last round, with the server's new state.
        states: The clients' new states; a client that is absent loses its own.
    """
    layout, manifest = run.layout, current_manifest(run.path)
    clients = sorted(states)
    old = run.local_states
    rounds = {client: old.entry(client)[1].round for client in clients}
    writer = StateWriter.over(ClientStates(layout))
    sums: dict[str, str] = {}
    names = (shard_file(saved.round, part) for part in count())
    unused = (name for name in names if name not in manifest.shards)
    for start, name in zip(range(0, len(clients), _TOGETHER), unused, strict=False):
        group = islice(clients, start, start + _TOGETHER)
        written = writer.write(layout, name, rounds, ((one, states[one]) for one in group))
        writer, sums = written.writer, {**sums, **written.checksums}
    server = f"server/{state_file(saved.round)}"
    gone = {*manifest.shards, server}
    kept = {file: found for file, found in manifest.sha256.items() if file not in gone}
    shards = writer.states.files
    begun = replace(manifest, shards=shards, clients={}, sha256={**kept, **sums})
    commit(layout, begun)
    remove_files(layout.part, (), lambda name: name == PREVIOUS)
    sweep(run.path, begun.files)
    for part in ((), (PRIVATE,)):  # what a repair has kept may hold what is to be gone
        remove_files(run.path, (*part, DAMAGED), lambda name: ".safetensors" in name)
    found = write_state(layout.where(server), saved.server, Owner(None, saved.round))
    sums = {file: known for file, known in begun.sha256.items() if file not in begun.rows}
    whole = replace(begun, rows=(), owners=None, sha256={**sums, server: found})
    commit(layout, whole)
    sweep(run.path, whole.files)
