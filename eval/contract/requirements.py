"""Assertions for the checks: compare arrays and results, and report differences."""

from collections.abc import Callable, Sequence

import torch

from eval.contract.federation import SmallFederation
from pfedmoap.contract.tasks import ClientResult
from pfedmoap.errors import MethodError
from pfedmoap.wire.messages import Arrays

Check = Callable[[SmallFederation], None]


def require(holds: bool, otherwise: str) -> None:
    """Fail a check with a message."""
    if not holds:
        raise MethodError(otherwise)


def same(first: Arrays, second: Arrays, tolerance: float = 0.0) -> bool:
    """Whether two mappings hold the same arrays, up to an absolute tolerance."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and torch.allclose(first[name], second[name], rtol=0, atol=tolerance)
        for name in first
    )


def require_same(first: Arrays, second: Arrays, otherwise: str, tolerance: float = 0.0) -> None:
    """Fail a check where arrays differ; the message names them."""
    if not same(first, second, tolerance):
        names = {*first, *second}
        differing = sorted(
            name
            for name in names
            if name not in first
            or name not in second
            or not same({name: first[name]}, {name: second[name]}, tolerance)
        )
        raise MethodError(f"{otherwise}; differing: {', '.join(differing)}")


def require_same_results(
    first: Sequence[ClientResult], second: Sequence[ClientResult], otherwise: str
) -> None:
    """Fail a check if clients' uploads or local states differ; their order does not matter."""
    others = {result.update.client: result for result in second}
    require(len(first) == len(others), otherwise)
    for result in first:
        client = result.update.client
        require(client in others, otherwise)
        for ours, theirs in (
            (result.update.arrays, others[client].update.arrays),
            (result.local, others[client].local),
        ):
            require_same(ours, theirs, f"{otherwise} (client {client})")


def snapshot(arrays: Arrays) -> dict[str, torch.Tensor]:
    """A copy that no later writing in place can change."""
    return {name: array.clone() for name, array in arrays.items()}
