"""Drawing the clients of a round."""

from collections.abc import Sequence

from pfedmoap.errors import ConfigError
from pfedmoap.seeding import numpy_generator
from pfedmoap.wire.messages import ClientId


def draw_cohort(
    clients: Sequence[ClientId], participation: float, round: int, seed: int
) -> tuple[ClientId, ...]:
    """Draw the clients of a round uniformly without replacement.

    Args:
        clients: All clients.
        participation: Fraction that takes part, in (0, 1]; at least one client does.
        round: The round; each has a stream of its own.
        seed: The training seed.

    Returns:
        Client ids in ascending order.

    Raises:
        ConfigError: The fraction is out of range.
    """
    if not 0 < participation <= 1:
        raise ConfigError(f"participation must be in (0, 1], got {participation}")
    size = max(1, round_half_up(participation * len(clients)))
    rng = numpy_generator(seed, "cohort", round)
    chosen = rng.choice(len(clients), size=size, replace=False)
    return tuple(sorted(clients[i] for i in chosen))


def round_half_up(value: float) -> int:
    """Round to the nearest integer, halves up (Python rounds them to even)."""
    return int(value + 0.5)
