"""What became of one run with hostile clients, and its form in a file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eval.attacks.reported import Reported
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        attackers: The hostile clients.
        accuracy: Of each honest client's own model on its test images.
        shared: Accuracy of the global model on the honest clients' test images; ``None`` without.
        fooled: Share of the honest clients' triggered test images that their own models take for
            the target class; images of that class are left out.
        served: Share of the honest clients that were served an attacker's expert in any round;
            ``None`` where the method serves none.
        reported: What the server reported.
    """

    attackers: frozenset[ClientId]
    accuracy: Mapping[ClientId, float]
    shared: float | None
    fooled: float
    served: float | None
    reported: Reported

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "attackers": sorted(self.attackers),
            "accuracy": {str(client): value for client, value in self.accuracy.items()},
            "shared": self.shared,
            "fooled": self.fooled,
            "served": self.served,
            "reported": asdict(self.reported),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Outcome":
        """Inverse of `to_json`."""
        return cls(
            frozenset(map(ClientId, found["attackers"])),
            {ClientId(int(client)): value for client, value in found["accuracy"].items()},
            found["shared"],
            found["fooled"],
            found["served"],
            Reported(**found["reported"]),
        )
