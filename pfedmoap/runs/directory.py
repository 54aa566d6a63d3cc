"""A run's directory: configuration, metrics, checkpoints, and resuming after an interruption.

```
config.json       the resolved configuration
task.json         class names, templates and the clients' sizes: what inference needs of the data
metrics.jsonl     one line a round
private/          readable by its owner only; see `pfedmoap.runs.log` and `pfedmoap.runs.layout`
checkpoint.json   the manifest: which files make up the last complete round
server/           the server's state, safetensors
clients/0003/     one client's personal state, safetensors
per_client.csv    the final table
privacy.json      the guarantee; empty where there is none
ledgers/0003.json what one client has spent of its privacy budget; never rolled back
```

A private run keeps everything that no noise covers in ``private/``.

The manifest is the commit point. Files of a round are written under names of their own, then the
round's metrics, then the manifest is replaced; a kill before that leaves the previous round, whose
files are still there. The manifest is also the first file of a run: it marks the folder as a run. A
run starts only in a folder that is absent, empty or has a manifest, and it deletes only regular
files with the names and in the places of its own files, never through a symbolic link.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.manifest import FILE, Manifest, read_manifest, state_file, write_manifest
from pfedmoap.runs.folder import claimed, refuse_links, refuse_lost_manifest, sweep
from pfedmoap.runs.layout import Layout, MARK
from pfedmoap.runs.log import Record, append_round, drop_rounds_after, read_rounds
from pfedmoap.storage.atomic_files import read_arrays, read_json, write_arrays, write_json
from pfedmoap.storage.strict_json import integer, items
from pfedmoap.wire.messages import Arrays, ClientId

__all__ = ["Checkpoint", "Record", "RunDirectory"]


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


class RunDirectory:
    """One run on disk.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def create(
        cls,
        path: Path | str,
        config: Record,
        task: Record,
        *,
        resume: bool,
        divided: bool = False,
    ) -> "RunDirectory":
        """Start a run, or resume one.

        Args:
            path: The folder. A run there that has no complete round yet is replaced where
                ``resume`` is false.
            config: The resolved configuration.
            task: What inference needs to know of the data.
            resume: Continue a run that is there already; its configuration must be the same.
            divided: Whether private files go to a folder of their own.

        Returns:
            The run.

        Raises:
            RunError: A run with a complete round is there and ``resume`` is false, or it has
                another configuration, or the folder holds something else. Nothing was changed.
        """
        run = cls(path)
        manifest = None if claimed(run.path) is None else run._manifest
        known = run.path / "config.json"
        if manifest is not None and manifest.round > 0 and not resume:
            raise RunError(
                f"{run.path} holds a run already; continue it with --resume true, or choose "
                "another folder with --out"
            )
        if manifest is not None and (manifest.round > 0 or (resume and known.exists())):
            differing = list(_differences(run.config, json.loads(json.dumps(config))))
            if differing:
                raise RunError(
                    f"{run.path} was started with another configuration: " + "; ".join(differing)
                )
            if run.divided != divided:
                raise RunError(
                    f"{run.path} is a private run of a version that kept clients' results beside "
                    "what may be shared; start it anew in another folder with --out"
                )
            changed = list(_differences(run.task, json.loads(json.dumps(task))))
            if changed:
                names = ", ".join(sorted({line.split()[0].split(".")[0] for line in changed}))
                raise RunError(
                    f"{run.path} was started on other data or weights (differing: {names}); its "
                    "state means nothing to these. Choose another folder with --out"
                )
        if manifest is None:
            write_manifest(run.path, Manifest())
        layout = Layout(run.path, divided)
        layout.make()
        public, private = layout.task(task)
        if divided:
            write_json(layout.private_part / "task.json", private, private=True)
            if manifest is None or manifest.round == 0:
                write_manifest(layout.private_part, Manifest(), private=True)
        write_json(run.path / "task.json", public)
        write_json(known, config)
        return run

    @property
    def divided(self) -> bool:
        """Whether the run has a private part."""
        file = self.path / "task.json"
        return file.exists() and MARK in read_json(file)

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout(self.path, self.divided)

    @property
    def config(self) -> Record:
        """The resolved configuration."""
        return dict(read_json(self.path / "config.json"))

    @property
    def task(self) -> Record:
        """What inference needs to know of the data.

        Raises:
            RunError: A part of the run is missing or damaged.
        """
        known = dict(read_json(self.path / "task.json"))
        if known.pop(MARK, None) is not None:
            known |= read_json(self.layout.private_part / "task.json")
        return known

    @property
    def round(self) -> int:
        """The last complete round; 0 before the first."""
        return self._manifest.round

    def save(
        self,
        checkpoint: Checkpoint,
        trained: tuple[ClientId, ...],
        record: Record,
        private: Record | None = None,
    ) -> None:
        """Commit a round.

        Args:
            checkpoint: The state after it.
            trained: Clients whose state changed; only theirs is written.
            record: Its line of metrics.
            private: The part of the record for the operator only; see `pfedmoap.runs.log`.
        """
        before = self._manifest
        name = state_file(checkpoint.round)
        server, layout = f"server/{name}", self.layout
        write_arrays(self.path / server, checkpoint.server)
        clients = dict(before.clients)
        for client in trained:
            clients[client] = f"clients/{client:04d}/{name}"
            place = layout.where(clients[client])
            write_arrays(place, checkpoint.local_states[client], private=layout.divided)
        append_round(layout, record, private or {})
        committed = Manifest(
            checkpoint.round, server, clients, checkpoint.charges, checkpoint.privacy
        )
        if layout.divided:
            write_manifest(layout.private_part, committed, private=True)  # this is the commit
        write_manifest(self.path, committed.shown if layout.divided else committed)
        sweep(self.path, committed)

    def resume(self) -> Checkpoint | None:
        """Delete the files of an interrupted round and read the last complete one; see `load`.

        Raises:
            RunError: The manifest is lost or damaged, or a folder of the run is a link. Nothing
                was touched.
        """
        refuse_links(self.path)
        manifest = self._manifest
        drop_rounds_after(self.layout, manifest.round)
        if self.divided:  # a kill between the two manifests leaves the shown one behind
            write_manifest(self.path, manifest.shown)
        sweep(self.path, manifest)
        return self.load()

    def load(self) -> Checkpoint | None:
        """Read the last complete round; changes nothing on disk.

        Returns:
            The checkpoint, or ``None`` before the first complete round.
        """
        manifest, layout = self._manifest, self.layout
        if manifest.server is None:
            return None
        return Checkpoint(
            round=manifest.round,
            server=read_arrays(self.path / manifest.server),
            local_states={
                client: read_arrays(layout.where(file))
                for client, file in sorted(manifest.clients.items())
            },
            charges=manifest.charges,
            privacy=manifest.privacy,
        )

    def load_server(self) -> Arrays:
        """Read only the server's state.

        Raises:
            RunError: No round is complete yet.
        """
        file = self._manifest.server
        if file is None:
            raise RunError(f"{self.path} has no complete round yet")
        return read_arrays(self.path / file)

    def load_client(self, client: ClientId) -> Arrays | None:
        """Read one client's state; ``None`` for a client that never took part."""
        file = self._manifest.clients.get(client)
        return None if file is None else read_arrays(self.layout.where(file))

    def metrics(self) -> list[Record]:
        """Read all complete lines of metrics, in the order of rounds; see `read_rounds`."""
        return read_rounds(self.layout)

    def participation(self) -> dict[ClientId, int]:
        """Count in how many complete rounds each client took part, from the metrics.

        Raises:
            RunError: The metrics are damaged.
        """
        try:
            return Counter(
                ClientId(integer(client, "a client of a cohort"))
                for record in self.metrics()
                for client in items(record.get("cohort", []), "a cohort")
            )
        except ValueError as error:
            raise RunError(f"{self.path / 'metrics.jsonl'} is damaged: {error}") from error

    @property
    def _manifest(self) -> Manifest:
        shown = read_manifest(self.path)
        if shown is None:
            refuse_lost_manifest(self.path)
        part = self.layout.unchecked_private_part
        if shown is None or not self.divided or not part.is_dir():
            return shown or Manifest()
        whole = read_manifest(part)
        if whole is None and shown.round > 0:
            raise RunError(
                f"{part / FILE} is missing: without it nobody knows which state is whole. Nothing "
                "was touched. Restore it from a copy, or start anew in another folder"
            )
        return whole or shown


def _differences(old: Record, new: Record, prefix: str = "") -> Iterator[str]:
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key} was {a!r}, is {b!r}"
