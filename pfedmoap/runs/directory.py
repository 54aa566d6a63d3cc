"""A run's directory: configuration, metrics, checkpoints, and resuming after an interruption.

```
config.json       the resolved configuration
task.json         class names, templates and the clients' sizes: what inference needs of the data;
                  where files were read, their names, sizes and hashes
metrics.jsonl     one line a round
private/          readable by its owner only; see `pfedmoap.runs.log` and `pfedmoap.runs.layout`
checkpoint.json   the manifest: which files make up the last complete round, and their checksums
checkpoint-previous.json  the one before it, while the run is going on: for `pfedmoap repair`
server/           the server's state, safetensors; what it holds of clients in shards, as below
clients/          the clients' personal states, one shard a round; see `pfedmoap.runs.shard`
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
from dataclasses import replace
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.checkpoint import (
    Checkpoint,
    Open,
    open_to_write,
    read_checkpoint,
    read_server,
    write_states,
)
from pfedmoap.runs.checksums import check_content
from pfedmoap.runs.client_states import ClientStates, open_states
from pfedmoap.runs.commit import (
    commit,
    current_manifest,
    keep_previous,
    layout_of,
    previous_files,
    show,
)
from pfedmoap.runs.folder import claimed, read_object, refuse_links, sweep
from pfedmoap.runs.layout import MARK, PRIVATE_TASK, Layout
from pfedmoap.runs.log import Record, append_round, drop_rounds_after, read_rounds
from pfedmoap.runs.manifest import PREVIOUS, Manifest, read_manifest
from pfedmoap.runs.same_run import refuse_other_run
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.digests import sha256
from pfedmoap.storage.own_files import remove_files
from pfedmoap.storage.strict_json import integer, items
from pfedmoap.wire.messages import Arrays, ClientId

__all__ = ["Checkpoint", "Record", "RunDirectory"]


class RunDirectory:
    """One run on disk.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._open: Open | None = None  # from the first write on

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
                    f"{run.path} holds a run already; continue it with --resume, or choose "
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
        if divided:
            show(layout, started)
            layout.make()
        commit(layout, started)
        for name, content in files.items():
            write_bytes(run.path / name, content, private=name == PRIVATE_TASK)
        return run

    @property
    def divided(self) -> bool:
        """Whether the run has a private part."""
        return self.layout.divided

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return layout_of(self.path)

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
        run, self._open = self._open, None
        if run is None or read_manifest(run.layout.part) != run.manifest:
            run = open_to_write(self.layout, self._manifest)
        before, layout = run.manifest, run.layout
        written = write_states(run, checkpoint, trained)
        lines = append_round(layout, record, private or {})
        logs = {log: (*before.lines.get(log, ()), line) for log, line in lines.items()}
        if before.round > 0:  # what `pfedmoap repair` falls back to
            keep_previous(layout, before)
        manifest = replace(written.manifest, lines={**before.lines, **logs})
        commit(layout, manifest)
        sweep(self.path, manifest.files | before.files)
        self._open = replace(written, manifest=manifest)

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
        self._open = open_to_write(self.layout, manifest)
        if self.divided:  # a kill between the two manifests leaves the shown one behind
            show(self.layout, self._open.manifest)
        sweep(self.path, self._open.manifest.files | previous_files(self.layout))
        return None if saved is None else replace(saved, local_states=self.local_states)

    @property
    def local_states(self) -> ClientStates:
        """The clients' states after the last complete round; each access reads one."""
        opened = self._open
        return opened.writer.states if opened else open_states(self.layout, self._manifest)

    def finish(self, *tables: str) -> None:
        """End a run: take the checksums of its tables, and drop the round before the last.

        Args:
            tables: Names of files as in an undivided run; those that are not there are left out.
        """
        self._open = None
        manifest, layout = self._manifest, self.layout
        found = {name: layout.where(name) for name in tables if layout.where(name).exists()}
        sums = {name: sha256(file.read_bytes()) for name, file in found.items()}
        commit(layout, replace(manifest, sha256={**manifest.sha256, **sums}))
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
        return read_checkpoint(self.layout, self._manifest)

    def load_server(self) -> Arrays:
        """Read only the server's state.

        Raises:
            RunError: No round is complete yet.
        """
        manifest = self._manifest
        if manifest.server is None:
            raise RunError(f"{self.path} has no complete round yet")
        return read_server(self.layout, manifest, manifest.server)

    def load_client(self, client: ClientId) -> Arrays | None:
        """Read one client's state; ``None`` for a client that never took part."""
        return self.local_states.get(client)

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
        return current_manifest(self.path)
