"""What pFedMoAP's server knows between rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.contract.server_rows import ServerRows
from pfedmoap.methods.pfedmoap.mixture import GATE
from pfedmoap.server.aggregation import combine
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import Arrays, ClientId, Update


@dataclass(frozen=True)
class ServerState:
    """The server's state.

    Attributes:
        context: The averaged prompt, (L, W).
        pool: The last prompt of every client that has taken part.
        gate: The averaged gate by name; empty where gates stay on the clients.
    """

    context: Tensor
    pool: ExpertPool
    gate: Arrays = field(default_factory=dict)

    def to_arrays(self) -> Arrays:
        """The averaged prompt, the pool, and the gate where it is averaged, as named tensors."""
        return {"context": self.context, **self.pool.to_arrays(), **self.gate}

    def divided(self) -> tuple[Arrays, ServerRows | None]:
        """The same with the pool's prompts apart; see `KeepsRows`."""
        shared, rows = self.pool.divided()
        return {"context": self.context, **shared, **self.gate}, rows

    def after(self, updates: Sequence[Update], options: ServerOptions) -> "ServerState":
        """Average the prompts of a round, and the gates where they are averaged.

        Args:
            updates: Admitted updates.
            options: The rule of aggregation.
        """
        if not updates:
            return self
        prompts = {update.client: update.arrays["context"] for update in updates}
        # A client without a pool entry was sent no experts, and its gate is untrained.
        gated = [update for update in updates if update.client in self.pool]
        gate = combine(self.gate, gated, options=options)
        context = combine({"context": self.context}, updates, options=options)["context"]
        return ServerState(context, self.pool.put(prompts), gate)

    @classmethod
    def from_arrays(cls, arrays: Arrays, options: PoolOptions) -> "ServerState":
        """Inverse of `to_arrays`."""
        gate = {name: value for name, value in arrays.items() if name.startswith(GATE)}
        return cls(arrays["context"], ExpertPool.from_arrays(arrays, options), gate)


def without_client(state: ServerState, client: ClientId) -> ServerState:
    """Take a client's prompt out of the pool; see `CanForget`.

    Args:
        state: The server's state.
        client: Who has left.
    """
    return replace(state, pool=state.pool.without(client))
