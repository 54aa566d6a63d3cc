"""Flower's ``ClientApp`` around a site: train, evaluate, and two kinds of query."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from pfedmoap.engine.flower.arrays import from_record, to_record
from pfedmoap.engine.flower.letters import (
    Answer,
    Order,
    answer_json,
    read_order,
    seal,
    unseal,
)
from pfedmoap.engine.flower.site import Site
from pfedmoap.wire.messages import ClientId

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What runs on a site's machine: it takes up a federation, and is then a `Site` of it."""

    def server_key(self, record: object) -> str:
        """Say which key has to have signed a message.

        Args:
            record: The message's JSON. In a first greeting, it names the key itself.

        Raises:
            UpdateRejectedError: No key is known for it.
        """
        ...

    def hello(self, welcome: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take up what a server published; see `pfedmoap.engine.flower.greeting`.

        Returns:
            What the site says of itself, or under ``refused`` why it does not take part.
        """
        ...

    def site(self, federation: str, client: ClientId) -> Site:
        """Return the site of a federation that was taken up.

        Args:
            federation: The federation's id.
            client: The site's number in it: the first one that it is given, for good.

        Raises:
            RunError: It was not taken up, or the number is another one.
        """
        ...

    def forget(self, federation: str, clients: list[int]) -> Mapping[int, int]:
        """Erase what is held of other clients; returns how many states held something of each."""
        ...


def make_client_app(host_of: Callable[[dict[str, Any]], Host]) -> ClientApp:
    """Make the app that a SuperNode runs.

    Args:
        host_of: Finds the machine's host, given the node's configuration; Flower makes apps anew
            for each message.

    Returns:
        The app.
    """
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        host = host_of(dict(context.node_config))
        welcome, _ = unseal(message.content, host.server_key, "query.hello")
        return Message(seal(host.hello(welcome)), reply_to=message)

    @app.query("forget")
    def forget(message: Message, context: Context) -> Message:
        host = host_of(dict(context.node_config))
        asked, _ = unseal(message.content, host.server_key, "query.forget")
        changed = host.forget(str(asked["federation"]), list(asked["clients"]))
        counts = {str(client): count for client, count in changed.items()}
        return Message(seal({"changed": counts}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        host = host_of(dict(context.node_config))
        about, arrays = unseal(message.content, host.server_key, "train")
        order = read_order(about)
        try:
            site = host.site(order.federation, order.client)
            answer, update = site.train(order, from_record(arrays))
        except Exception:  # whatever a method raises: the server is told that, and no more
            logger.exception("round %d failed", order.round)
            answer, update = _failed(order), {}
        content = seal(answer_json(answer), to_record(update, order.wire))
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        host = host_of(dict(context.node_config))
        about, arrays = unseal(message.content, host.server_key, "evaluate")
        order = read_order(about)
        try:
            site = host.site(order.federation, order.client)
            answer = site.evaluate(order, from_record(arrays))
        except Exception:  # as above
            logger.exception("evaluation in round %d failed", order.round)
            answer = _failed(order)
        return Message(seal(answer_json(answer)), reply_to=message)

    return app


def _failed(order: Order) -> Answer:
    return Answer(
        order.federation,
        order.client,
        order.round,
        order.nonce,
        sat_out="the site could not do it; its own log says why",
    )
