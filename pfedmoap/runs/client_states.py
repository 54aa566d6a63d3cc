"""All clients' states as a run has them on disk, read one by one and never held together."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pfedmoap.runs.checksums import damaged
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.manifest import Manifest, round_of
from pfedmoap.runs.shard import Entry, Shard, check_shard, read_pieces, read_shard
from pfedmoap.runs.state_content import Digest, from_content, pieces_of
from pfedmoap.runs.state_files import Owner, read_state
from pfedmoap.wire.messages import Arrays, ClientId


class ClientStates(Mapping[ClientId, Arrays]):
    """A client's state by its id; clients that never took part are absent.

    Each access reads the state from the disk and checks it. In memory is only where it is: about
    100 bytes a piece.

    Args:
        layout: Where the run's files are.
        shards: The manifest's shards, in its order: a client's last entry counts.
        files: State file and its checksum of each client that an earlier version wrote.
    """

    def __init__(
        self,
        layout: Layout,
        shards: Sequence[Shard] = (),
        files: Mapping[ClientId, tuple[str, str | None]] | None = None,
    ) -> None:
        self.shards = tuple(shards)
        self._layout, self._files = layout, files or {}
        self._of = {client: shard for shard in shards for client in shard.clients}
        self._home = {digest: shard for shard in shards for digest in shard.places}

    def __getitem__(self, client: ClientId) -> Arrays:
        """Read a client's state.

        Raises:
            KeyError: It never took part.
            RunError: Its state is damaged.
        """
        if client in self._of:
            record = self.record(client)
            try:
                return from_content(record, self.pieces(pieces_of(record)))
            except (ValueError, KeyError) as error:
                where = self._layout.where(self._of[client].file)
                raise damaged(where, f"the state of client {client}: {error}") from error
        file, checksum = self._files[client]
        return read_state(self._layout.where(file), Owner(client, round_of(file)), checksum)

    def __iter__(self) -> Iterator[ClientId]:
        return iter(sorted({*self._files, *self._of}))

    def __len__(self) -> int:
        return len({*self._files, *self._of})

    def __contains__(self, client: object) -> bool:
        return client in self._of or client in self._files

    def over(self, shards: Sequence[Shard]) -> "ClientStates":
        """The states in other shards, most of which are the same; this object stays as it is."""
        made = ClientStates(self._layout)
        made.shards, made._files = tuple(shards), self._files
        made._of, made._home = dict(self._of), dict(self._home)
        before, after = ({shard.file for shard in each} for each in (self.shards, shards))
        for shard in self.shards:
            if shard.file not in after:
                for digest in shard.places:
                    del made._home[digest]
        for shard in shards:
            if shard.file not in before:
                made._of |= dict.fromkeys(shard.clients, shard)
                made._home |= dict.fromkeys(shard.places, shard)
        return made

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the shards, as the manifest has them."""
        return tuple(shard.file for shard in self.shards)

    def entry(self, client: ClientId) -> tuple[str, Entry]:
        """The shard that has a client's entry, and the entry."""
        shard = self._of[client]
        return shard.file, shard.clients[client]

    def home(self, piece: Digest) -> Shard | None:
        """The shard that holds a piece."""
        return self._home.get(piece)

    def record(self, client: ClientId) -> bytes:
        """Read the record of a client whose state is in a shard."""
        _, entry = self.entry(client)
        return self.pieces((entry.record,))[entry.record]

    def pieces(self, wanted: Iterable[Digest]) -> dict[Digest, bytes]:
        """Read pieces.

        Raises:
            KeyError: No shard has one of them.
            RunError: One is damaged.
        """
        by_shard: dict[str, list[Digest]] = defaultdict(list)
        for digest in wanted:
            by_shard[self._home[digest].file].append(digest)
        found: dict[Digest, bytes] = {}
        for file, digests in by_shard.items():
            shard = self._home[digests[0]]
            found.update(read_pieces(self._layout.where(file), shard, digests))
        return found

    def check(self) -> None:
        """Read every state, one after the other.

        Raises:
            RunError: One is damaged.
        """
        for shard in self.shards:
            check_shard(self._layout.where(shard.file), shard)
        for client in self._files:
            self[client]


def open_rows(layout: Layout, manifest: Manifest) -> ClientStates:
    """Find what the server's state holds of single clients; reads the headers of shards alone.

    Raises:
        RunError: A header is damaged.
    """
    return ClientStates(layout, _read(layout, manifest, manifest.rows))


def _read(layout: Layout, manifest: Manifest, files: Iterable[str]) -> list[Shard]:
    return [read_shard(layout.where(file), file, manifest.sha256.get(file)) for file in files]


def open_states(layout: Layout, manifest: Manifest) -> ClientStates:
    """Find all clients' states; reads the headers of shards alone.

    Raises:
        RunError: A header is damaged.
    """
    shards = _read(layout, manifest, manifest.shards)
    files = {
        client: (file, manifest.sha256.get(file))
        for client, file in sorted(manifest.clients.items())
    }
    return ClientStates(layout, shards, files)
