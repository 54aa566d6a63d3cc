"""What pFedMoAP's server sends: the averaged prompt, and experts out of its pool."""

from collections.abc import Sequence

from pfedmoap.methods.pfedmoap.served_experts import pack_experts, pack_guests
from pfedmoap.methods.pfedmoap.serving import Serving
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import Arrays, ClientId, Download


def plan_downloads(
    pool: ExpertPool,
    common: Arrays,
    cohort: Sequence[ClientId],
    round: int,
    serving: Serving,
    *,
    guests: bool,
) -> list[Download]:
    """Plan a round's downloads, in the order of client ids.

    Args:
        pool: The clients' last prompts.
        common: What everybody is sent, with the averaged prompt ``context`` (L, W).
        cohort: The clients.
        round: The round.
        serving: Which experts a client is served.
        guests: Whether clients without a pool entry are sent experts to classify with.
    """
    downloads = []
    experts = serving.experts(pool, cohort, round)
    for client in sorted(cohort):
        arrays, served = common, None
        if client in experts:
            arrays = {**common, **pack_experts(experts[client], common["context"])}
            served = tuple(expert.client for expert in experts[client])
        elif guests and len(pool):
            arrays = {**common, **pack_guests(serving.guests(pool, common["context"]))}
        downloads.append(Download(round, client, arrays, served))
    return downloads
