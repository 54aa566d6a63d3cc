"""Sybils: hostile clients that stand together nearest to one victim in the expert pool."""

import torch
from torch import Tensor

from eval.attacks.attack import Sight, start_of, with_arrays
from pfedmoap.methods.pfedmoap.served_experts import EXPERTS, OWNERS
from pfedmoap.wire.messages import ClientId, Update

NEARNESS = 0.5
"""Distance to the victim's prompt, as a share of that of the nearest other prompt they know."""


def sybil(update: Update, sight: Sight) -> Update:
    """Upload what the victim is expected to upload, moved a little into the trained direction.

    The victim is the honest client of the lowest id among those whose prompts any sybil was served.
    Clients train from the server's prompt, so that the victim is expected where its last change
    leads from the present one. Sybils are nearer to there than any other prompt that they know, and
    a server that goes by distance alone serves them first. Where no expert is served there is
    nobody to stand next to, and they upload what they trained.
    """
    known = honest_prompts(sight)
    starts = start_of(update, sight.sent)
    earlier = starts if sight.before is None else start_of(update, sight.before)

    def place(name: str, array: Tensor) -> Tensor:
        fitting = {client: p for client, p in known.items() if p.shape == array.shape}
        harm = array - starts[name]
        if not fitting or not float(harm.norm()):
            return array
        victim = fitting[min(fitting)]
        gaps = [float((p - victim).norm()) for p in fitting.values() if p is not victim]
        reach = NEARNESS * min(gaps) if gaps else NEARNESS * float(harm.norm())
        expected = starts[name] + (victim - earlier[name])
        return expected + harm * (reach / float(harm.norm()))

    return with_arrays(update, place)


def honest_prompts(sight: Sight) -> dict[ClientId, Tensor]:
    """Prompts of honest clients that any of the hostile ones was served, by client."""
    found: dict[ClientId, Tensor] = {}
    for download in sight.shared:
        owners = download.arrays.get(OWNERS, torch.zeros(0)).tolist()
        for owner, prompt in zip(owners, download.arrays.get(EXPERTS, ()), strict=True):
            if ClientId(owner) not in sight.attackers:
                found[ClientId(owner)] = prompt
    return found
