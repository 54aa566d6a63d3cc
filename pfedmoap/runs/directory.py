"""A run's directory: configuration, metrics, checkpoints, and resuming after an interruption.

```
config.json       the resolved configuration
task.json         class names, templates and the clients' sizes: what inference needs of the data
metrics.jsonl     one line a round
private/          readable by its owner only; see `pfedmoap.runs.log` and `pfedmoap.runs.layout`
checkpoint.json   the manifest: which files make up the last complete round, and their checksums
checkpoint-previous.json  the one before it, while the run is going on: for `pfedmoap repair`
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

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.checksums import check_content, sha256, warn_without_checksums
from pfedmoap.runs.folder import claimed, read_object, refuse_links, refuse_lost_manifest, sweep
from pfedmoap.runs.layout import Layout, MARK, PRIVATE_TASK
from pfedmoap.runs.log import Record, append_round, checksums_of, drop_rounds_after, read_rounds
from pfedmoap.runs.manifest import (
    FILE,
    PREVIOUS,
    Manifest,
    read_manifest,
    round_of,
    state_file,
    write_manifest,
)
from pfedmoap.runs.same_run import refuse_other_run
from pfedmoap.runs.state_files import Owner, read_state, write_state
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.own_files import remove_files
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
        if manifest is not None and manifest.round > 0:
            if not resume:
                raise RunError(
                    f"{run.path} holds a run already; continue it with --resume true, or choose "
                    "another folder with --out"
                )
            old = run.config, run.task
            refuse_other_run(run.path, old, (config, task), (run.divided, divided))
            return run
        layout = Layout(run.path, divided)
        public, private = layout.task(task)
        files = {"config.json": json_bytes(config), "task.json": json_bytes(public)}
        if divided:
            files[PRIVATE_TASK] = json_bytes(private)
        started = Manifest(sha256={name: sha256(content) for name, content in files.items()})
        run.path.mkdir(parents=True, exist_ok=True)
        write_manifest(run.path, started.shown(_public(layout, started)) if divided else started)
        layout.make()
        if divided:
            write_manifest(layout.private_part, started, private=True)
        for name, content in files.items():
            write_bytes(run.path / name, content, private=name == PRIVATE_TASK)
        return run

    @property
    def divided(self) -> bool:
        """Whether the run has a private part."""
        file = self.path / "task.json"
        return file.exists() and MARK in read_object(file)

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout(self.path, self.divided)

    @property
    def config(self) -> Record:
        """The resolved configuration.

        Raises:
            RunError: It is missing or damaged.
        """
        return read_object(self.path / "config.json", self._manifest.sha256.get("config.json"))

    @property
    def task(self) -> Record:
        """What inference needs to know of the data.

        Raises:
            RunError: A part of the run is missing or damaged.
        """
        sums = self._manifest.sha256
        known = read_object(self.path / "task.json", sums.get("task.json"))
        if known.pop(MARK, None) is not None:
            file = self.layout.private_part / "task.json"
            known |= read_object(file, sums.get(PRIVATE_TASK))
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
        before, layout = self._manifest, self.layout
        name = state_file(checkpoint.round)
        server = f"server/{name}"
        owner = Owner(None, checkpoint.round)
        written = {server: write_state(self.path / server, checkpoint.server, owner)}
        clients = dict(before.clients)
        for client in trained:
            file = clients[client] = f"clients/{client:04d}/{name}"
            owner = Owner(client, checkpoint.round)
            place, state = layout.where(file), checkpoint.local_states[client]
            written[file] = write_state(place, state, owner, private=layout.divided)
        lines = append_round(layout, record, private or {})
        kept = {server, *clients.values()}
        sums = {
            file: found
            for file, found in before.sha256.items()
            if file in kept or file not in before.files
        }
        committed = Manifest(
            *(checkpoint.round, server, clients, checkpoint.charges, checkpoint.privacy),
            sha256={**sums, **written},
            lines={**before.lines, **{log: (*before.lines.get(log, ()), lines[log]) for log in lines}},
        )
        if before.round > 0:  # what `pfedmoap repair` falls back to
            self._write(before, PREVIOUS)
        self._write(committed)
        sweep(self.path, committed.files | before.files)

    def resume(self) -> Checkpoint | None:
        """Delete the files of an interrupted round and read the last complete one; see `load`.

        Raises:
            RunError: A manifest is lost or damaged, a folder of the run is a link, or a line of
                the metrics or the state of the last complete round is damaged. Nothing was touched.
        """
        refuse_links(self.path)
        manifest = self._manifest
        saved = self.load()
        drop_rounds_after(self.layout, manifest.round, manifest.log_lines)
        if manifest.round > 0 and not manifest.sealed:
            manifest = self._with_checksums(manifest)
            self._write(manifest)
        elif self.divided:  # a kill between the two manifests leaves the shown one behind
            write_manifest(self.path, manifest.shown(_public(self.layout, manifest)))
        sweep(self.path, manifest.files | self._previous_files())
        return saved

    def finish(self, *tables: str) -> None:
        """End a run: take the checksums of its tables, and give up what a repair would fall back to.

        Args:
            tables: Names of files as in an undivided run; those that are not there are left out.
        """
        manifest, layout = self._manifest, self.layout
        found = {name: layout.where(name) for name in tables if layout.where(name).exists()}
        sums = {name: sha256(file.read_bytes()) for name, file in found.items()}
        manifest = replace(manifest, sha256={**manifest.sha256, **sums})
        self._write(manifest)
        remove_files(layout.part, (), lambda name: name == PREVIOUS)
        sweep(self.path, manifest.files)

    def whole(self, name: str) -> Path:
        """Where a table of a finished run is, once its checksum was found right.

        Args:
            name: Its name as in an undivided run.

        Raises:
            RunError: It is damaged.
        """
        file = self.layout.where(name)
        if file.exists():
            check_content(file, file.read_bytes(), self._manifest.sha256.get(name))
        return file

    def load(self) -> Checkpoint | None:
        """Read the last complete round; changes nothing on disk.

        Returns:
            The checkpoint, or ``None`` before the first complete round.

        Raises:
            RunError: A file of it is damaged.
        """
        manifest = self._manifest
        if manifest.server is None:
            return None
        return Checkpoint(
            round=manifest.round,
            server=self._state(manifest, manifest.server, None),
            local_states={
                client: self._state(manifest, file, client)
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
        manifest = self._manifest
        if manifest.server is None:
            raise RunError(f"{self.path} has no complete round yet")
        return self._state(manifest, manifest.server, None)

    def load_client(self, client: ClientId) -> Arrays | None:
        """Read one client's state; ``None`` for a client that never took part."""
        manifest = self._manifest
        file = manifest.clients.get(client)
        return None if file is None else self._state(manifest, file, client)

    def metrics(self) -> list[Record]:
        """Read all complete lines of metrics, in the order of rounds; see `read_rounds`."""
        manifest = self._manifest
        return read_rounds(self.layout, manifest.round, manifest.log_lines)

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
        elif shown.round > 0 and shown.sealed:  # the task says whether there is a private part
            read_object(self.path / "task.json", shown.sha256.get("task.json"))
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


    def _state(self, manifest: Manifest, file: str, client: ClientId | None) -> Arrays:
        if not manifest.sealed:
            warn_without_checksums(self.path)
        owner = Owner(client, round_of(file))
        return read_state(self.layout.where(file), owner, manifest.sha256.get(file))

    def _write(self, manifest: Manifest, name: str = FILE) -> None:
        """Write a manifest; the whole one of a divided run is the commit, and is private."""
        layout = self.layout
        write_manifest(layout.part, manifest, name, private=layout.divided)
        if layout.divided and name == FILE:
            write_manifest(self.path, manifest.shown(_public(layout, manifest)))

    def _previous_files(self) -> frozenset[str]:
        try:
            before = read_manifest(self.layout.part, PREVIOUS)
        except RunError:  # of no use to a repair either
            return frozenset()
        return frozenset() if before is None else before.files

    def _with_checksums(self, manifest: Manifest) -> Manifest:
        """Give a run of an earlier version the checksums of what is there now."""
        layout = self.layout
        places = {file: layout.where(file) for file in sorted(manifest.files)}
        places |= {name: self.path / name for name in ("config.json", "task.json", PRIVATE_TASK)}
        return replace(
            manifest,
            sha256={
                name: sha256(file.read_bytes()) for name, file in places.items() if file.exists()
            },
            lines=checksums_of(self.path, manifest.round),
        )


def _public(layout: Layout, manifest: Manifest) -> set[str]:
    return {name for name in (*manifest.sha256, *manifest.lines) if not layout.is_private(name)}
