"""The wire of a federation of which some clients are hostile."""

from collections.abc import Set
from dataclasses import dataclass, field, replace

from eval.attacks.attack import Attack, Sight
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download, Update
from pfedmoap.wire.transport import Traffic, Transport


@dataclass
class CompromisedClients:
    """A transport between honest code and the wire: hostile clients' uploads are forged on it.

    The server and the honest clients are untouched, and what arrives is what the wire admits:
    arrays and a number of examples under the sender's own id.

    Attributes:
        wire: The transport below.
        attack: What the hostile clients do.
        attackers: Which clients are hostile.
        clients: How many clients there are.
        seed: Seed of the attack's own randomness.
        sent: What the hostile clients were sent last.
        before: What they were sent the last time but one.
    """

    wire: Transport
    attack: Attack
    attackers: Set[ClientId]
    clients: int
    seed: int
    sent: dict[ClientId, Download] = field(default_factory=dict)
    before: dict[ClientId, Download] = field(default_factory=dict)

    def down(self, download: Download) -> Download:
        """Transport a download; hostile clients remember theirs."""
        arrived = self.wire.down(download)
        if download.client in self.attackers:
            if download.client in self.sent:
                self.before[download.client] = self.sent[download.client]
            self.sent[download.client] = arrived
        return arrived

    def up(self, update: Update) -> Update:
        """Transport an update, forged if its sender is hostile."""
        if update.client in self.attackers:
            here = [d for _, d in sorted(self.sent.items()) if d.round == update.round]
            sight = Sight(
                sent=self.sent[update.client],
                before=self.before.get(update.client),
                shared=here,
                attackers=frozenset(self.attackers),
                clients=self.clients,
                stream=generator(self.seed, "attack", update.client, "round", update.round),
            )
            forged = self.attack.forge(update, sight)
            update = replace(forged, client=update.client, round=update.round)
        return self.wire.up(update)

    def collect(self) -> list[Traffic]:
        """Return the traffic since the last call."""
        return self.wire.collect()
