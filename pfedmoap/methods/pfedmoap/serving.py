"""Which experts pFedMoAP's server serves in a round, and to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.seeding import numpy_generator
from pfedmoap.server.expert import Expert
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.server.serving import serve_at_most
from pfedmoap.wire.messages import ClientId

Selection = Literal["nearest", "random"]


@dataclass(frozen=True)
class Serving:
    """The rule by which experts are chosen.

    Attributes:
        count: Experts k for each client.
        selection: ``nearest`` prompts by l2, or ``random`` ones.
        seed: Seed of the random ones.
        options: Whose prompts are served at all, and to how many.
    """

    count: int
    selection: Selection
    seed: int
    options: PoolOptions

    def experts(
        self, pool: ExpertPool, cohort: Sequence[ClientId], round: int
    ) -> Mapping[ClientId, list[Expert]]:
        """Choose the experts of each client of a cohort that has an entry, by client."""
        known = [client for client in sorted(cohort) if client in pool]
        most = self.options.max_served
        if most is None:
            return self._ranked(pool, known, round, self.count)
        return serve_at_most(most, self.count, self._ranked(pool, known, round, len(pool)))

    def guests(self, pool: ExpertPool, context: Tensor) -> list[Expert]:
        """The experts of clients without an entry, nearest to a prompt (L, W).

        They are classified with and not trained with; ``max_served`` does not count them.
        """
        return pool.near(context, self.count, pool.screened(self.options).hidden_from(None))

    def _ranked(
        self, pool: ExpertPool, clients: Sequence[ClientId], round: int, count: int
    ) -> Mapping[ClientId, list[Expert]]:
        screened = pool.screened(self.options)
        hidden = {client: screened.hidden_from(client) for client in clients}
        if self.selection == "nearest":
            return pool.nearest_all(clients, count, hidden)
        ranked = {}
        for client in clients:
            rng = numpy_generator(self.seed, "experts", client, round)
            drawn = pool.random(client, count, rng, hidden[client])
            if self.options.max_served is not None:
                drawn = [drawn[place] for place in rng.permutation(len(drawn)).tolist()]
            ranked[client] = drawn
        return ranked
