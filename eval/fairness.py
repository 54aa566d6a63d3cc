"""Measures of how evenly a figure is distributed over clients."""

from collections.abc import Sequence

import numpy as np

from pfedmoap.errors import DataError


def spread(values: Sequence[float]) -> float:
    """Standard deviation over clients (population: the clients are all there are)."""
    return float(np.std(_checked(values)))


def worst_decile(values: Sequence[float]) -> float:
    """Mean of the worst tenth of the clients, rounded down but at least one of them."""
    ordered = np.sort(_checked(values))
    return float(ordered[: max(1, len(ordered) // 10)].mean())


def jain_index(values: Sequence[float]) -> float:
    """Jain's fairness index ``(sum x)^2 / (n sum x^2)`` (Jain, Chiu and Hawe, 1984, eq. 1).

    Args:
        values: One non-negative figure a client.

    Returns:
        From 1 / n (one client has everything) to 1 (all are equal); 1 where all are zero.

    Raises:
        DataError: There are no values, or a negative one.

    Examples:
        >>> jain_index([1.0, 1.0, 0.0, 0.0])
        0.5
    """
    array = _checked(values)
    if (array < 0).any():
        raise DataError(f"Jain's index needs non-negative values, got {array.min():g}")
    squares = float((array**2).sum())
    return 1.0 if squares == 0 else float(array.sum()) ** 2 / (len(array) * squares)


def _checked(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(f"expected at least one figure, got shape {array.shape}")
    return array
