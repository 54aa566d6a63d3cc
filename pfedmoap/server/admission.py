"""The server's checks on an upload, before anything of it is used."""

from collections.abc import Mapping
from numbers import Integral

import torch

from pfedmoap.config.bounds import shown
from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.errors import UpdateRejectedError
from pfedmoap.wire.messages import Arrays, ClientId, Update

LARGEST_COUNT = 10**12  # of examples that a client can claim; see `ServerOptions.max_examples`


def admit(
    update: Update,
    expected: Mapping[str, ArraySpec],
    client: ClientId,
    round: int,
    sent: Arrays | None = None,
) -> Update:
    """Check an upload; a faulty one is refused as a whole.

    Args:
        update: What arrived.
        expected: The method's declared uploads.
        client: The client that should have sent it.
        round: The round that it should be for.
        sent: What the client had been sent, for shapes that depend on it; see `ArraySpec`.

    Returns:
        The same update.

    Raises:
        UpdateRejectedError: It is from another client or for another round, has other arrays than
            declared, or one that is no dense tensor or has a wrong shape or dtype, a value that is
            not finite, or a norm beyond the bound; or its number of examples is no whole number
            from 1 to 10^12.
    """
    if (update.client, update.round) != (client, round):
        raise UpdateRejectedError(
            f"update of client {shown(update.client)} for round {shown(update.round)}, "
            f"expected client {client} in round {round}"
        )
    if (why := _bad_count(update.num_examples)) is not None:
        raise UpdateRejectedError(
            f"client {client} claims {shown(update.num_examples)} examples, {why}"
        )
    if set(update.arrays) != set(expected):
        raise UpdateRejectedError(
            f"update of client {client} holds {shown(sorted(map(str, update.arrays)))}, expected "
            f"{sorted(expected)}"
        )
    for name, spec in expected.items():
        array = update.arrays[name]
        what = f"{name!r} of client {client}"
        if not isinstance(array, torch.Tensor) or array.layout != torch.strided:
            raise UpdateRejectedError(f"{what} is no dense tensor")
        if not spec.admits(tuple(array.shape), sent):
            rows = "" if spec.rows_of is None else f", with rows as in the sent {spec.rows_of!r}"
            raise UpdateRejectedError(
                f"{what} has shape {tuple(array.shape)}, expected {spec.shape}{rows}"
            )
        if array.dtype != spec.dtype:
            raise UpdateRejectedError(f"{what} has dtype {array.dtype}, expected {spec.dtype}")
        if not bool(torch.isfinite(array).all()):
            raise UpdateRejectedError(
                f"{what} holds values that are not finite: its training diverged; use a smaller "
                "training.learning_rate"
            )
        norm = float(array.double().norm())
        if norm > spec.max_norm:
            raise UpdateRejectedError(f"{what} has norm {norm:.3g}, at most {spec.max_norm:g}")
    return update


def _bad_count(count: object) -> str | None:
    """What is wrong with a claimed number of examples; ``None`` if nothing is."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, Integral):
        return "which is no whole number"
    if int(count) < 1:
        return "expected at least 1"
    if int(count) > LARGEST_COUNT:
        return f"expected at most {LARGEST_COUNT:.0e}"
    return None
