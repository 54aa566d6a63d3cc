"""Asking many nodes at once, and waiting for them no longer than agreed."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from pfedmoap.wire.said import one_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Silence:
    """What came of a node instead of an answer."""

    reason: str


@dataclass(frozen=True)
class Fleet:
    """All nodes that a server can reach.

    Flower's own ``send_and_receive`` looks for answers every three seconds; this one more often.

    Attributes:
        grid: Flower's side of the connection.
        timeout_seconds: How long to wait for answers.
        poll_seconds: How often to look for them.
        sleep: Waits; tests replace it.
        clock: Seconds that only grow; tests replace it.
        names: Names of sites by their nodes' public keys. Where it is there, no other node counts,
            whoever registered it; it is asked each time, since sites may be added.
    """

    grid: Grid
    timeout_seconds: float
    poll_seconds: float = 0.2
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    names: Callable[[], Mapping[bytes, str]] | None = None

    def present(self) -> dict[int, str]:
        """Ids of the nodes that are online, with the name that each one's key belongs to.

        The name is empty where nodes need no key.
        """
        nodes = list(self.grid.get_nodes())
        if self.names is None:
            return {int(node.node_id): "" for node in nodes}
        names = self.names()
        return {
            int(node.node_id): names[node.public_key] for node in nodes if node.public_key in names
        }

    def ask(
        self,
        kind: str,
        contents: Mapping[int, RecordDict],
        group: str = "",
        most_seconds: float = math.inf,
    ) -> dict[int, RecordDict | Silence]:
        """Send each node its own message and collect the answers.

        Args:
            kind: Flower's type of the messages, e.g. ``train``.
            contents: What each node is sent.
            group: Flower's label of them, e.g. the round.
            most_seconds: How long to wait where that is less than usual.

        Returns:
            An entry for each node: its answer, or why there is none. An answer counts only for the
            node that was asked, whatever it says of itself.
        """
        nodes, patience = sorted(contents), min(self.timeout_seconds, most_seconds)
        messages = [
            Message(contents[node], node, kind, ttl=patience + 60, group_id=group) for node in nodes
        ]
        sent = list(self.grid.push_messages(messages)) if messages else []
        waiting = {name: node for name, node in zip(sent, nodes, strict=False) if name is not None}
        found: dict[int, RecordDict | Silence] = {
            node: Silence("the message could not be sent to it") for node in nodes
        }
        for node in waiting.values():
            found[node] = Silence(f"it did not answer within {patience:g} seconds")
        until = self.clock() + patience
        while waiting:
            for reply in self.grid.pull_messages(list(waiting)):
                asked = waiting.pop(reply.metadata.reply_to_message_id, None)
                if asked is None:
                    continue
                if reply.has_error():
                    found[asked] = Silence(f"it failed: {one_line(str(reply.error.reason), 300)}")
                elif reply.metadata.src_node_id != asked:
                    found[asked] = Silence("another node answered in its place")
                else:
                    found[asked] = reply.content
            if waiting and self.clock() >= until:
                break
            if waiting:
                self.sleep(self.poll_seconds)
        return found
