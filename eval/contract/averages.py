"""Checks of methods that allow ``--privacy central``, which adds noise to the average only."""

from dataclasses import replace

import torch

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require, require_same
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.wire.messages import ClientId, Update

_TOLERANCE = 1e-4  # of float32 sums in another order


def a_method_for_central_privacy_sees_uploads_through_their_mean(world: SmallFederation) -> None:
    """One upload that equals the mean, from any client, gives the same state as all uploads."""
    method = world.method
    if gap_in_analysis(method, "central") is not None:
        return
    state, _, results = world.rounds(2)
    downloads = method.plan(state, world.clients, 3)
    for download in downloads:
        missing = sorted(set(method.uploads) - set(download.arrays))
        require(not missing, f"{missing} are uploaded, and clients are sent no start for them")
        require_same(
            download.arrays,
            downloads[0].arrays,
            f"clients {downloads[0].client} and {download.client} are sent different things",
        )
    updates = [replace(result.update, num_examples=None) for result in results]
    mean = {
        name: torch.stack([update.arrays[name].double() for update in updates]).mean(0).float()
        for name in method.uploads
    }
    expected = method.to_arrays(method.aggregate(state, updates))
    for sender in (updates[0].client, ClientId(-1)):
        alone = method.aggregate(state, [Update(updates[0].round, sender, mean, None)])
        require_same(
            method.to_arrays(alone),
            expected,
            "its `privacy_gap` lets central privacy noise the mean of the uploads, but the server "
            "makes something else of them than of their mean; refuse the mode `central`",
            _TOLERANCE,
        )
