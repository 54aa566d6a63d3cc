"""What stays of a client that has left."""

from collections.abc import Mapping

import torch
from torch import Tensor

from eval.contract.federation import SmallFederation
from eval.contract.requirements import require
from pfedmoap.contract.capabilities import CanForget
from pfedmoap.wire.messages import Arrays, ClientId


def who_has_left_is_in_no_state(world: SmallFederation) -> None:
    """What one client alone has uploaded is in no state after it was erased; see `CanForget`.

    A method that keeps nothing of single clients, but averages, has nothing to erase.
    """
    method = world.method
    state, local_states, results = world.rounds(2)
    uploads = {result.update.client: result.update.arrays for result in results}
    if not uploads:
        return
    gone = min(uploads)
    own = _of_one_alone(gone, uploads, method.to_arrays(method.init()))
    others = {client: local for client, local in local_states.items() if client != gone}
    if isinstance(method, CanForget):
        state = method.forget(state, gone)
        others = {client: method.forget_local(local, gone) for client, local in others.items()}
    held = {"the server": method.to_arrays(state)}
    held |= {f"client {client}": local for client, local in others.items()}
    for name, upload in own.items():
        for who, arrays in held.items():
            found = sorted(part for part, array in arrays.items() if _holds(array, upload))
            require(
                not found,
                f"{who} still holds {name!r} of client {gone}, which has left, in {found}: offer "
                "`forget` and `forget_local`",
            )
    world.predict(state, others)


def _of_one_alone(
    client: ClientId, uploads: Mapping[ClientId, Arrays], first: Arrays
) -> dict[str, Tensor]:
    """A client's uploads that nobody else has sent, and with which nobody begins."""
    others = [arrays for other, arrays in uploads.items() if other != client]
    return {
        name: upload
        for name, upload in uploads[client].items()
        if upload.is_floating_point()
        and upload.numel() > 1
        and not any(_holds(arrays[name], upload) for arrays in (*others, first) if name in arrays)
    }


def _holds(array: Tensor, upload: Tensor) -> bool:
    """Whether an array is an upload, or has it as one of its rows."""
    if array.dtype != upload.dtype or array.shape[-upload.dim() :] != upload.shape:
        return False
    rows = array.reshape(-1, *upload.shape).to(upload.device)
    return any(torch.equal(row, upload) for row in rows)
