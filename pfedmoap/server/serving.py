"""How often one expert may be served in a round, and to whom then."""

import heapq
from collections.abc import Mapping, Sequence

from pfedmoap.server.expert import Expert
from pfedmoap.wire.messages import ClientId


def serve_at_most(
    most: int, count: int, preferences: Mapping[ClientId, Sequence[Expert]]
) -> dict[ClientId, list[Expert]]:
    """Give each client experts of its preference, and each expert to so many clients at most.

    All clients ask for their first choice, then for the second, and so on. Of those who ask at the
    same time the nearest are served, ties by client id, so that a cohort's order does not matter. A
    client whose experts are all taken gets fewer.

    Args:
        most: Clients that one expert serves.
        count: Experts that a client gets.
        preferences: All experts that a client may be served, best first, by client.

    Returns:
        Experts by client, best first.
    """
    served: dict[ClientId, list[Expert]] = {client: [] for client in preferences}
    times: dict[ClientId, int] = {}
    asked = [
        (0, ranked[0].distance, client)
        for client, ranked in preferences.items()
        if ranked and count > 0
    ]
    heapq.heapify(asked)
    while asked:
        place, _, client = heapq.heappop(asked)
        ranked = preferences[client]
        expert = ranked[place].client
        if times.get(expert, 0) < most:
            times[expert] = times.get(expert, 0) + 1
            served[client].append(ranked[place])
        if len(served[client]) < count and place + 1 < len(ranked):
            heapq.heappush(asked, (place + 1, ranked[place + 1].distance, client))
    return served
