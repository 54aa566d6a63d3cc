"""Writing a round's states into one shard, and giving back the room of those that they replace.

A shard is never changed. It goes when none of its states counts any more; and where less than half
of what is on disk counts, the emptiest shards are emptied into the one that is being written. A
round moves at most as many bytes as its own clients wrote, so that it costs what its cohort costs;
all follows from the shards on disk alone, so that a resumed run makes the same files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pfedmoap.runs.client_states import ClientStates
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.shard import Entry, Shard, encode_shard
from pfedmoap.runs.state_content import Digest, Piece, digest_of, pieces_of, to_content
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.wire.messages import Arrays, ClientId

SPARSE = 2
"""Bytes on disk for each one that counts, at most."""

_ENTRY_BYTES = 100
"""Roughly what a client's entry takes in a header."""


@dataclass(frozen=True)
class StateWriter:
    """The states on disk with what counts of them.

    Attributes:
        states: The states.
        pieces: By client, its record and what it names.
        uses: How many clients' states hold a piece; absent where none does.
        live: Bytes of each shard that count, by its name.
    """

    states: ClientStates
    pieces: Mapping[ClientId, tuple[Digest, ...]]
    uses: Mapping[Digest, int]
    live: Mapping[str, int]

    @classmethod
    def over(cls, states: ClientStates) -> "StateWriter":
        """Count what the states on disk hold; reads all records."""
        counts = _Counts(states, {}, {}, {shard.file: 0 for shard in states.shards})
        for client in states:
            counts.add(client, (states.entry(client)[1].record, *pieces_of(states.record(client))))
            counts.live[states.entry(client)[0]] += _ENTRY_BYTES
        return cls(states, counts.pieces, counts.uses, counts.live)

    def write(
        self,
        layout: Layout,
        file: str,
        round: int | Mapping[ClientId, int],
        changed: Iterable[tuple[ClientId, Arrays]],
    ) -> "Written":
        """Write clients' new states into a shard; this commits nothing.

        Args:
            layout: Where the run's files are.
            file: Name of the shard.
            round: The round that made the states, or each client's.
            changed: The states, in the order of clients.

        Returns:
            What is on disk then; the shard is not there if there is nothing to write.
        """
        counts = _Counts(self.states, dict(self.pieces), dict(self.uses), dict(self.live))
        fresh: dict[Digest, Piece] = {}
        entries: dict[ClientId, Entry] = {}
        for client, arrays in changed:
            content = to_content(arrays)
            record = digest_of(content.record)
            found = {record: content.record, **content.pieces}
            counts.remove(client)
            counts.add(client, tuple(found))
            fresh |= {d: piece for d, piece in found.items() if self.states.home(d) is None}
            entries[client] = Entry(round if isinstance(round, int) else round[client], record)
        kept = self._emptied(counts, fresh, entries)
        checksums = {}
        if entries:
            whole, checksums[file], shard = encode_shard(file, entries, fresh)
            write_bytes(layout.where(file), whole, private=layout.is_private(file))
            kept = [*kept, shard]
            counts.live[file] = _bytes_of(fresh, entries)
        live = {shard.file: counts.live[shard.file] for shard in kept}
        states = self.states.over(kept)
        return Written(StateWriter(states, counts.pieces, counts.uses, live), checksums)

    def _emptied(
        self, counts: "_Counts", fresh: dict[Digest, Piece], entries: dict[ClientId, Entry]
    ) -> list[Shard]:
        """Move what counts out of the emptiest shards; returns those that stay."""
        kept = {shard.file: shard for shard in self.states.shards if counts.live[shard.file]}
        written = left = _bytes_of(fresh, entries)
        while kept:
            alive = written + sum(counts.live[file] for file in kept)
            emptiest = min(kept, key=lambda file: (counts.live[file] / kept[file].bytes, file))
            there = written + sum(shard.bytes for shard in kept.values())
            if there <= SPARSE * alive or counts.live[emptiest] > left:
                break
            shard = kept.pop(emptiest)
            left -= counts.live[emptiest]
            written += counts.live[emptiest]
            fresh |= self.states.pieces(d for d in shard.places if d in counts.uses)
            for client, entry in shard.clients.items():
                if client not in entries and self.states.entry(client)[0] == emptiest:
                    entries[client] = entry
        return list(kept.values())


@dataclass(frozen=True)
class Written:
    """What one write left.

    Attributes:
        writer: For the next one.
        checksums: Of the header of the shard that was written, by its name; empty without one.
    """

    writer: StateWriter
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class _Counts:
    """Counts of pieces while they change."""

    states: ClientStates
    pieces: dict[ClientId, tuple[Digest, ...]]
    uses: dict[Digest, int]
    live: dict[str, int]

    def add(self, client: ClientId, pieces: tuple[Digest, ...]) -> None:
        self.pieces[client] = pieces
        for piece in pieces:
            before = self.uses.get(piece, 0)
            self.uses[piece] = before + 1
            home = self.states.home(piece)
            if before == 0 and home is not None:
                self.live[home.file] += home.size(piece)

    def remove(self, client: ClientId) -> None:
        """Take away what a client had, if anything."""
        if client not in self.pieces:
            return
        self.live[self.states.entry(client)[0]] -= _ENTRY_BYTES
        for piece in self.pieces.pop(client):
            self.uses[piece] -= 1
            if self.uses[piece] == 0:
                del self.uses[piece]
                home = self.states.home(piece)
                if home is not None:
                    self.live[home.file] -= home.size(piece)


def _bytes_of(fresh: Mapping[Digest, Piece], entries: Mapping[ClientId, Entry]) -> int:
    return sum(map(len, fresh.values())) + _ENTRY_BYTES * len(entries)
