"""A run's directory: configuration, metrics, checkpoints, and resuming after a kill.

```
config.json       the resolved configuration
task.json         class names, templates and the clients' sizes: what inference needs of the data
metrics.jsonl     one line a round
private/          open to its owner alone: what of the metrics must not be shown; see `run_log`
checkpoint.json   the manifest: which files make up the last complete round
server/           the server's state, safetensors
clients/0003/     one client's personal state, safetensors
per_client.csv    the final table
privacy.json      the guarantee; empty where there is none
ledgers/0003.json what one client has spent of its privacy budget; never rolled back
```

The manifest is the commit point. Files of a round are written under names of their own, then the
round's metrics, then the manifest is replaced; a kill before that leaves the previous round, whose
files are still there. The manifest is also the first file of a run: it says whose folder this is. A
run starts only in a folder that is absent, empty or has a manifest, and it deletes only regular
files that bear the names of its own, in their places, never through a symbolic link.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.manifest import Manifest, read_manifest, state_file, write_manifest
from pfedmoap.run_folder import claimed, refuse_links, refuse_lost_manifest, sweep
from pfedmoap.run_log import Record, append_round, drop_rounds_after, read_rounds
from pfedmoap.storage import read_arrays, read_json, write_arrays, write_json
from pfedmoap.types import Arrays, ClientId

__all__ = ["Checkpoint", "Record", "RunDirectory"]


@dataclass(frozen=True)
class Checkpoint:
    """The state after a complete round.

    Attributes:
        round: The last complete round; 0 before the first.
        server: The server's state.
        locals: Each client's own state; clients that never took part are absent.
        charges: How many charges each client's privacy ledger held then; a ledger that holds fewer
            has been rolled back. Clients without a ledger are absent.
        privacy: What the privatizer's part at the server carries on; see `ServerSide.state`.
    """

    round: int
    server: Arrays
    locals: Mapping[ClientId, Arrays]
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
        cls, path: Path | str, config: Record, task: Record, *, resume: bool
    ) -> "RunDirectory":
        """Start a run, or take one up again.

        Args:
            path: The folder. A run there that has no complete round yet is replaced where
                ``resume`` is false.
            config: The resolved configuration.
            task: What inference needs to know of the data.
            resume: Continue a run that is there already; its configuration must be the same.

        Returns:
            The run.

        Raises:
            RunError: A run with a complete round is there and ``resume`` is false, or it has
                another configuration, or the folder holds something else. Nothing was touched.
        """
        run = cls(path)
        manifest = claimed(run.path)
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
            changed = list(_differences(run.task, json.loads(json.dumps(task))))
            if changed:
                names = ", ".join(sorted({line.split()[0].split(".")[0] for line in changed}))
                raise RunError(
                    f"{run.path} was started on other data or weights (differing: {names}); its "
                    "state means nothing to these. Choose another folder with --out"
                )
        if manifest is None:
            write_manifest(run.path, Manifest())
        write_json(run.path / "task.json", task)
        write_json(known, config)
        return run

    @property
    def config(self) -> Record:
        """The resolved configuration."""
        return dict(read_json(self.path / "config.json"))

    @property
    def task(self) -> Record:
        """What inference needs to know of the data."""
        return dict(read_json(self.path / "task.json"))

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
            private: What only the operator of the run may read of it; see `run_log`.
        """
        before = self._manifest
        name = state_file(checkpoint.round)
        server = f"server/{name}"
        write_arrays(self.path / server, checkpoint.server)
        clients = dict(before.clients)
        for client in trained:
            clients[client] = f"clients/{client:04d}/{name}"
            write_arrays(self.path / clients[client], checkpoint.locals[client])
        append_round(self.path, record, private or {})
        committed = Manifest(
            checkpoint.round, server, clients, checkpoint.charges, checkpoint.privacy
        )
        write_manifest(self.path, committed)
        sweep(self.path, committed)

    def resume(self) -> Checkpoint | None:
        """Drop what a killed round left behind, and read the last complete one; see `load`.

        Raises:
            RunError: The manifest is lost or damaged, or a folder of the run is a link. Nothing
                was touched.
        """
        refuse_links(self.path)
        manifest = self._manifest
        drop_rounds_after(self.path, manifest.round)
        sweep(self.path, manifest)
        return self.load()

    def load(self) -> Checkpoint | None:
        """Read the last complete round; changes nothing on disk.

        Returns:
            The checkpoint, or ``None`` before the first complete round.
        """
        manifest = self._manifest
        if manifest.server is None:
            return None
        return Checkpoint(
            round=manifest.round,
            server=read_arrays(self.path / manifest.server),
            locals={
                client: read_arrays(self.path / file)
                for client, file in sorted(manifest.clients.items())
            },
            charges=self._rounds_by_client() if manifest.charges is None else manifest.charges,
            privacy=manifest.privacy,
        )

    def load_server(self) -> Arrays:
        """Read the server's state alone.

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
        return None if file is None else read_arrays(self.path / file)

    def metrics(self) -> list[Record]:
        """Read all complete lines of metrics, in the order of rounds; see `read_rounds`."""
        return read_rounds(self.path)

    @property
    def _manifest(self) -> Manifest:
        found = read_manifest(self.path)
        if found is None:
            refuse_lost_manifest(self.path)
        return found or Manifest()

    def _rounds_by_client(self) -> dict[ClientId, int]:
        """Count in how many rounds each client took part, where no manifest has counted charges."""
        cohorts = (record.get("cohort", []) for record in self.metrics())
        return dict(Counter(ClientId(client) for cohort in cohorts for client in cohort))


def _differences(old: Record, new: Record, prefix: str = "") -> Iterator[str]:
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key} was {a!r}, is {b!r}"
