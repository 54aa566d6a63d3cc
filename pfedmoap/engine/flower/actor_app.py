"""Flower's ``ClientApp`` of a simulation: its node is not one client, it trains a batch of them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from pfedmoap.client.privatizer import ChargesSteps, Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.engines import Recipe
from pfedmoap.engine.flower.parcels import data_of_record, pack_results, unpack_batch
from pfedmoap.wire.messages import ClientId

Shelf = Callable[[ClientId], ArrayRecord]
"""Where a client's training data lie, as `data_record` writes them; it can be pickled."""


@dataclass(frozen=True)
class Bench:
    """What one process trains with, for all batches that it gets in a run."""

    method: AnyMethod
    privatizer: Privatizer


_bench: dict[str, Bench] = {}  # of this process's run: loading a model takes longer than a batch


def make_actor_app(
    run: str, recipe: Recipe, shelf: Shelf, begin: Callable[[], None] = lambda: None
) -> ClientApp:
    """Make the app; Flower pickles it for every message, so that it holds no data and no model.

    Args:
        run: Name that no other run has; a process makes method and privatizer once for each.
        recipe: Makes them.
        shelf: Where the clients' data are.
        begin: Called before that.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        del context
        return Message(trained(run, recipe, shelf, begin, message.content), reply_to=message)

    return app


def trained(
    run: str, recipe: Recipe, shelf: Shelf, begin: Callable[[], None], content: RecordDict
) -> RecordDict:
    """Train a batch of clients, as the engine in one process trains its batches.

    Args:
        run: See `make_actor_app`, as for the next three.
        recipe: Makes method and privatizer.
        shelf: Where the clients' data are.
        begin: Called before they are made.
        content: What `pack_batch` has written.

    Returns:
        What `unpack_results` reads.
    """

    def data_of(client: ClientId) -> ClientData:
        return data_of_record(shelf(client))

    batch = unpack_batch(content, data_of)
    with _unlogged(batch.silent):
        if run not in _bench:
            begin()
            _bench.clear()
            _bench[run] = Bench(*recipe())
        method, privatizer = _bench[run].method, _bench[run].privatizer
        if batch.charged is not None and isinstance(privatizer, ChargesSteps):
            privatizer.take_over(batch.charged, batch.tasks[0].download.round)
        results = method.train(batch.tasks, privatizer)
    return pack_results(results, privatizer.clipped())


@contextmanager
def _unlogged(silent: bool) -> Iterator[None]:
    before = logging.root.manager.disable
    if silent:
        logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
