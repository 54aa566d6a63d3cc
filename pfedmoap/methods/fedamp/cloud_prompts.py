"""FedAMP's messages: each client's own mix of all clients' prompts."""

import torch
from torch import Tensor

from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import ClientId


def cloud_prompts(pool: ExpertPool, sigma: float, step: float) -> dict[ClientId, Tensor]:
    """Mix the prompts (L, W) of N clients for each of them; see `message_weights`."""
    if not pool.clients:
        return {}
    prompts = torch.stack([pool[client] for client in pool.clients])
    flat = prompts.flatten(1).double()  # (N, L W)
    mixed = (message_weights(flat, sigma, step) @ flat).to(prompts.dtype)
    return dict(zip(pool.clients, mixed.view_as(prompts), strict=True))


def message_weights(prompts: Tensor, sigma: float, step: float) -> Tensor:
    """Weigh every client's prompt for every client (eq. 6, with our scale-free constants).

    Args:
        prompts: N prompts, (N, d).
        sigma: Reach of similarity in units of the mean squared distance between two clients.
        step: Weight of all others together where all prompts are equal, times N / (N - 1).

    Returns:
        (N, N); rows are positive and sum to 1.
    """
    count = len(prompts)
    squared = torch.cdist(prompts, prompts, compute_mode="donot_use_mm_for_euclid_dist").pow(2)
    mean = squared.sum() / max(1, count * (count - 1))
    reach = sigma * mean.clamp(min=torch.finfo(prompts.dtype).tiny)
    weights = step / count * torch.exp(-squared / reach)
    weights.fill_diagonal_(0)
    return weights + torch.diag(1 - weights.sum(1))
