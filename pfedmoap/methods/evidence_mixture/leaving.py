"""What a client holds of another one that has left: its expert, and the weight that it had."""

import torch

from pfedmoap.methods.pfedmoap.served_experts import OWNERS, without_expert
from pfedmoap.wire.messages import Arrays, ClientId

WEIGHTS = "expert_weights"


def without_expert_and_weight(local: Arrays, client: ClientId) -> Arrays:
    """Drop one client's expert from those that another one holds; see `CanForget`.

    The weights that stay keep their ratios, and sum to 1. Prior and head stay as they were fitted.

    Args:
        local: What the other client holds; its weights (1 + k,) begin with that of its own prompt.
        client: Whose expert goes.
    """
    left = without_expert(local, client)
    if left is local:
        return local
    own = torch.ones(1, dtype=torch.bool)
    kept = local[WEIGHTS][torch.cat([own, local[OWNERS] != client])]
    total = kept.sum()
    weights = kept / total if total > 0 else torch.full_like(kept, 1 / len(kept))
    return {**left, WEIGHTS: weights}
