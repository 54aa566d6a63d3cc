"""The one place where uploads are averaged, by a rule that the server's options choose.

Every method whose server averages calls `combine`. All arrays of a call are one vector a client,
so that rules which judge clients (clipped mean, geometric median, multi-Krum) judge a client by
all that it uploaded. Sums are in float64 and in the order of client ids: neither arrival nor the
uploads' precision matters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pfedmoap.config.server import ServerOptions
from pfedmoap.errors import MethodError
from pfedmoap.server.robust_means import robust_mean
from pfedmoap.wire.messages import Arrays, Update

Weighting = Literal["examples", "uniform"]


def combine(
    state: Arrays,
    updates: Sequence[Update],
    weighting: Weighting = "examples",
    options: ServerOptions | None = None,
) -> dict[str, Tensor]:
    """Average some uploaded arrays; keep the state's own where there are no updates.

    Args:
        state: The server's present values, by the names that they have in uploads. The clipped
            mean measures changes from them; other rules need their names alone.
        updates: Admitted updates, in any order.
        weighting: See `average`. It counts for ``mean``, ``clipped_mean`` and
            ``geometric_median``; the other rules count clients, since the share of hostile
            clients that they bear is one of clients, and a weight is only claimed.
        options: Which rule, and the declared share of hostile clients; ``None`` for the mean.

    Returns:
        New tensors by name, each with the shape and dtype of the uploads.

    Raises:
        MethodError: Only some clients withhold their size.
    """
    if not updates or not state:
        return dict(state)
    if options is None or options.aggregation == "mean":
        return {name: average(updates, name, weighting) for name in state}
    ordered = sorted(updates, key=lambda update: update.client)
    rows = torch.stack([_flat(update.arrays, state) for update in ordered])
    centre = _flat(state, state).to(rows.device)
    found = robust_mean(rows, _weights(ordered, weighting), options, centre)
    return _unflat(found, {name: ordered[0].arrays[name] for name in state})


def average(updates: Sequence[Update], name: str, weighting: Weighting = "examples") -> Tensor:
    """Average one uploaded array (FedAvg, arXiv 1602.05629, Algorithm 1).

    A method calls `combine`, which follows the server's options.

    Args:
        updates: At least one update.
        name: Which array.
        weighting: ``examples`` weights by the size of the training sets, or uniformly where the
            clients withhold it; ``uniform`` ignores it.

    Returns:
        A new tensor of the array's shape, summed in the order of client ids.

    Raises:
        MethodError: There are no updates, or only some clients withhold their size.
    """
    if not updates:
        raise MethodError("there is nothing to average: no update was admitted")
    ordered = sorted(updates, key=lambda update: update.client)
    weights = _weights(ordered, weighting)
    total = torch.zeros_like(ordered[0].arrays[name], dtype=torch.float64)
    for weight, update in zip(weights.tolist(), ordered, strict=True):
        total += weight * update.arrays[name].double()
    return total.to(ordered[0].arrays[name].dtype)


def _weights(ordered: Sequence[Update], weighting: Weighting) -> Tensor:
    """Weights of the updates, (n,) float64 of sum 1."""
    counts = [update.num_examples for update in ordered]
    if weighting == "uniform" or all(count is None for count in counts):
        counts = [1] * len(ordered)
    if any(count is None for count in counts):
        raise MethodError("some clients withhold their number of examples; average uniformly")
    weights = torch.tensor(counts, dtype=torch.float64)
    return weights / weights.sum()


def _flat(arrays: Arrays, names: Mapping[str, Tensor]) -> Tensor:
    """Concatenate named arrays to one vector (d,) in float64."""
    return torch.cat([arrays[name].double().flatten() for name in names])


def _unflat(vector: Tensor, like: Arrays) -> dict[str, Tensor]:
    """Inverse of `_flat`, in the shapes and dtypes of ``like``."""
    parts = vector.split([array.numel() for array in like.values()])
    return {
        name: part.view(array.shape).to(array.dtype)
        for part, (name, array) in zip(parts, like.items(), strict=True)
    }
