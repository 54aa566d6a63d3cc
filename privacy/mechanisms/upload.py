"""The `release` mode: clients train without noise, and only the upload is noised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pfedmoap.client.privatizer import Authorisation, PlainTraining
from pfedmoap.client.privatizer_at_server import PlainServer, ServerSide
from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import ClientId, Download, Update
from privacy.ledgers.authorisation import charge_cohort
from privacy.ledgers.ledger import Ledgers
from privacy.mechanisms.clipping import lengths
from privacy.mechanisms.noisy_sum import NoisySum
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.sgd import Counts
from privacy.mechanisms.tally import Tally


@dataclass
class UploadPrivacy(PlainTraining):
    """Trains without noise, then clips the update and adds noise.

    **Unit**: all data of one client. **Neighbours**: replace them by any others. Whatever the
    client holds, its clipped move lies in a ball of radius ``max_update_norm``, so that two moves
    are at most twice that apart. This includes the add/remove of one example, and gains nothing
    from it. **Private**: the sequence of everything that the client uploads. **Not covered**:
    accuracy figures, timing, that a client took part, and the number of examples where it is
    declared public.

    Attributes:
        ledgers: The clients' ledgers; a unit is one upload.
        noise_multiplier: Standard deviation of the noise, as a multiple of the sensitivity 2S.
        max_update_norm: Radius S of the ball that moves are clipped to.
        counts: Whether uploads state the number of examples.
        randomness: Where noise comes from.
        statement: The guarantee in words and figures.
    """

    ledgers: Ledgers
    noise_multiplier: float
    max_update_norm: float
    counts: Counts
    randomness: Randomness
    statement: dict[str, Any]  # JSON of any shape
    _charged: set[tuple[ClientId, int]] = field(default_factory=set)
    _tally: Tally = field(default_factory=Tally)

    @property
    def server(self) -> ServerSide:
        """The server aggregates uploads unchanged: they are private already."""
        return PlainServer()

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Charge one upload; see `charge_cohort`."""
        authorisation = charge_cohort(self.ledgers, cohort, round, known)
        self._charged = {(client, round) for client in authorisation.allowed}
        return authorisation

    def release(self, update: Update, download: Download) -> Update:
        """Clip the move from what the server sent, over all arrays together, and add noise.

        Raises:
            PrivacyError: The round was not charged, or the server sent no starting point.
        """
        who = (update.client, update.round)
        if who not in self._charged:
            raise PrivacyError(
                f"client {update.client} uploads in round {update.round} without a charge in its "
                "ledger: authorise the round first, and upload once"
            )
        self._charged.discard(who)
        missing = sorted(set(update.arrays) - set(download.arrays))
        if missing:
            raise PrivacyError(
                f"release cannot cover {missing}: the server sent no public starting point for it"
            )
        moves = {
            name: torch.nan_to_num(value - download.arrays[name].to(value.device), 0.0, 0.0, 0.0)
            for name, value in update.arrays.items()
        }
        noisy = NoisySum(
            moves,
            noise_multiplier=2 * self.noise_multiplier,  # the sensitivity is the diameter
            max_norm=self.max_update_norm,
            normaliser=1,
            stream=self.randomness.stream("noise", *who),
        )
        one = {name: move[None] for name, move in moves.items()}
        noisy.add(one)
        length = lengths(one)
        self._tally.note(
            update.client, length > self.max_update_norm, torch.ones_like(length, dtype=torch.bool)
        )
        arrays = {
            name: download.arrays[name].to(move.device) + move
            for name, move in noisy.finish().items()
        }
        count = update.num_examples if self.counts == "public" else None
        return replace(update, arrays=arrays, num_examples=count, metrics={})

    def clipped(self) -> Mapping[ClientId, float]:
        """Return by client whether its update was clipped (1) or not (0)."""
        return self._tally.take()

    def describe(self) -> dict[str, Any]:
        """State the guarantee."""
        return self.statement
