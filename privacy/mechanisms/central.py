"""Central client-level privacy: a trusted server adds noise to the average of clipped updates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Authorisation, NoPrivacy, PlainTraining
from pfedmoap.client.privatizer_at_server import ServerSide
from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from privacy.ledgers.ledger import Ledgers
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.clipping import Clipping, FixedClipping
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.tally import Tally

EVERYBODY = ClientId(-1)
"""Stands for all clients together: the one account, and who the noisy mean comes from."""


@dataclass
class ServerAccount:
    """The single ledger of a run: every round's release concerns all clients.

    Attributes:
        ledgers: Where it is kept; a unit is one noisy mean.
        releases: Number of means in the current state, as the checkpoint says.
    """

    ledgers: Ledgers
    releases: int = 0

    def charge(self, round: int) -> float | None:
        """Charge a round; it is on disk when this returns.

        Returns:
            Epsilon spent including this round, or ``None`` where the budget does not suffice.

        Raises:
            PrivacyError: The ledger is damaged, another mechanism's, or older than the state.
        """
        with self.ledgers.locked():
            charged = self.ledgers.rounds_charged(EVERYBODY)
            if charged < self.releases:
                raise PrivacyError(
                    f"the server's state before round {round} is made of {self.releases} noisy "
                    f"means, but its ledger ({self.ledgers.place}) has {charged} charges: it was "
                    "lost or rolled back. Restore it: what was spent stays spent"
                )
            return self.ledgers.charge(EVERYBODY, round)


class ForTrustedServer(NoPrivacy):
    """What a site of a federation does under `CentralPrivacy`: the server does all the rest."""

    def release(self, update: Update, download: Download) -> Update:
        """Send the update to the trusted server, without the count, which no average may use."""
        del download
        return replace(update, num_examples=None)


@dataclass
class CentralPrivacy(PlainTraining):
    """DP-FedAvg (McMahan et al., ICLR 2018, arXiv 1710.06963) for servers that only average.

    **Unit**: a client with all its data. **Neighbours**: add or remove it. Each upload's move from
    what the server sent is clipped to ``max_update_norm`` over all arrays together, the moves are
    summed, noised once, and divided by the public number of clients that a round expects.
    **Private**: the sequence of the server's states, and all that goes down to clients, against
    other clients and the public. **Not covered**: the server itself, which is trusted and sees
    each upload; what stays on clients; evaluation; timing.

    Clients are drawn for a round each independently with probability ``participation``, from
    secret randomness; this is what amplification by sampling is proved for. An empty cohort is a
    round like any other, in which the state moves by noise alone.

    Attributes:
        account: The server's ledger.
        clients: All clients; a public list.
        participation: Public probability q of each client to be in a round.
        noise_multiplier: Noise in multiples of the sensitivity; with adaptive clipping, of the
            pair of sum and count.
        clip_norm: Clipping norm of a move; where it adapts, that of the next round.
        adaptive: How the norm follows the moves; ``None`` keeps it.
        randomness: Where cohorts and noise come from.
        statement: The guarantee in words and figures.
    """

    account: ServerAccount
    clients: tuple[ClientId, ...]
    participation: float
    noise_multiplier: float
    clip_norm: float
    adaptive: AdaptiveClipping | None
    randomness: Randomness
    statement: dict[str, Any]  # JSON of any shape
    _tally: Tally = field(default_factory=Tally)
    _charged: int | None = None

    @property
    def server(self) -> ServerSide:
        """All of it happens at the server."""
        return self

    @property
    def secret_cohort(self) -> bool:
        """Return true: amplification by sampling requires that cohorts stay secret."""
        return True

    @property
    def bounds_uploads(self) -> bool:
        """Return true: each move is clipped to a norm that is public."""
        return True

    @property
    def expected_cohort(self) -> float:
        """How many clients a round expects, which is public."""
        return self.participation * len(self.clients)

    def draw(
        self, clients: Sequence[ClientId], round: int, scheduled: Sequence[ClientId]
    ) -> tuple[ClientId, ...]:
        """Draw each client independently; the public schedule is not used.

        Raises:
            PrivacyError: These are not the clients that the noise was planned for.
        """
        del scheduled
        if tuple(sorted(clients)) != tuple(sorted(self.clients)):
            raise PrivacyError(
                f"the run has {len(clients)} clients, and privacy was planned for others "
                f"({len(self.clients)}): plan it with the clients that can be drawn"
            )
        draws = self.randomness.stream("cohort", round)
        drawn = (draws.uniform(len(clients)) < self.participation).tolist()
        return tuple(client for client, is_in in zip(sorted(clients), drawn, strict=True) if is_in)

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """Charge the round to the server's ledger; without budget no client takes part."""
        del known
        spent = self.account.charge(round)
        if spent is None:
            self._charged = None
            budget = self.account.ledgers.budget.epsilon
            why = (
                f"privacy budget: another round would exceed the server's epsilon {budget:g}; its "
                "state stays as it is"
            )
            return Authorisation((), dict.fromkeys(sorted(cohort), why))
        self._charged = round
        return Authorisation(tuple(sorted(cohort)), {}, dict.fromkeys(self.clients, spent))

    def release(self, update: Update, download: Download) -> Update:
        """Send the update to the trusted server, without the count, which no average may use."""
        del download
        return replace(update, num_examples=None)

    def settle(
        self,
        round: int,
        admitted: Sequence[Update],
        sent: Mapping[ClientId, Download],
        start: Callable[[], Arrays],
    ) -> Sequence[Update]:
        """Replace the uploads by one noisy mean; by nothing if the round was not charged.

        A client whose upload was refused counts like one that was not drawn.

        Raises:
            PrivacyError: The server sends no public starting point of an uploaded array.
        """
        if self._charged != round:
            return ()
        self._charged = None
        public = start()
        missing = sorted({name for update in admitted for name in update.arrays} - public.keys())
        if missing or not public:
            raise PrivacyError(
                f"central cannot cover {missing or 'uploads'}: the server sent no public starting "
                "point for it"
            )
        moves = {
            update.client: {
                name: (value.cpu() - sent[update.client].arrays[name].cpu())[None]
                for name, value in update.arrays.items()
            }
            for update in admitted
        }
        mean = self._noisy_mean(public, moves, round)
        self.account.releases += 1
        arrays = {name: value + mean[name].to(value.device) for name, value in public.items()}
        return (Update(round, EVERYBODY, arrays, num_examples=None),)

    def state(self) -> Mapping[str, float]:
        """How many means were released, and the clipping norm."""
        return {"releases": self.account.releases, "clip_norm": self.clip_norm}

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            PrivacyError: The checkpoint says nothing of its releases.
        """
        if not {"releases", "clip_norm"} <= state.keys():
            raise PrivacyError(
                "the checkpoint does not say how many noisy means it is made of; restore "
                "checkpoint.json, or start the run anew"
            )
        self.account.releases = int(state["releases"])
        self.clip_norm = float(state["clip_norm"])

    def clipped(self) -> Mapping[ClientId, float]:
        """Return by client whether its update was clipped (1) or not (0)."""
        return self._tally.take()

    def describe(self) -> dict[str, Any]:
        """State the guarantee."""
        return self.statement

    def _noisy_mean(
        self, like: Arrays, moves: Mapping[ClientId, Arrays], round: int
    ) -> dict[str, Tensor]:
        """Clip, sum, add noise and divide, each array (1, ...); and adapt the clipping norm."""
        stream = self.randomness.stream("noise", round)
        like = {name: value.cpu() for name, value in like.items()}
        one = torch.ones(1, dtype=torch.bool)
        clipping: Clipping = self.adaptive or FixedClipping(
            self.noise_multiplier, self.expected_cohort
        )
        total = clipping.sum(like, self.clip_norm, stream)
        for client, move in moves.items():
            self._tally.note(client, total.add(move, one), one)
        mean, following = total.finish()
        self.clip_norm = float(following)
        return mean
