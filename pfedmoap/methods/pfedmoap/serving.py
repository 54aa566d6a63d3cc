"""Which experts pFedMoAP's server serves in a round, and to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pfedmoap.config.server import PoolOptions
from pfedmoap.seeding import numpy_generator
from pfedmoap.server.expert_pool import Expert, ExpertPool
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
            return {client: self._ranked(pool, client, round, self.count) for client in known}
        ranked = {client: self._ranked(pool, client, round, len(pool)) for client in known}
        return serve_at_most(most, self.count, ranked)

    def guests(self, pool: ExpertPool, context: Tensor) -> list[Expert]:
        """The experts of clients without an entry, nearest to a prompt (L, W).

        They are classified with and not trained with; ``max_served`` does not count them.
        """
        return pool.near(context, self.count, pool.screened(self.options).hidden_from(None))

    def _ranked(self, pool: ExpertPool, client: ClientId, round: int, count: int) -> list[Expert]:
        hidden = pool.screened(self.options).hidden_from(client)
        if self.selection == "nearest":
            return pool.nearest(client, count, hidden)
        rng = numpy_generator(self.seed, "experts", client, round)
        drawn = pool.random(client, count, rng, hidden)
        if self.options.max_served is None:
            return drawn
        return [drawn[place] for place in rng.permutation(len(drawn)).tolist()]
