"""Sending batches of a round's clients to nodes that train them, and collecting the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pfedmoap.client.privatizer import ChargesSteps, Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.stacking import client_batches
from pfedmoap.contract.tasks import ClientResult, ClientTask
from pfedmoap.engine.flower.fleet import Fleet, Silence
from pfedmoap.engine.flower.parcels import Batch, pack_batch, unpack_results
from pfedmoap.errors import RunError


@dataclass(frozen=True)
class FanOut:
    """Trains a round's clients on a fleet whose nodes are no sites: each gets a batch of clients.

    Ledgers are charged here, before this is called. The steps that they were charged for go along
    with the clients, so that a node takes those and no others.

    Attributes:
        fleet: The nodes, at least as many as a round has batches.
        size: How many clients a batch has, given how many a round has.
    """

    fleet: Fleet
    size: Callable[[int], int]

    def train(
        self, method: AnyMethod, tasks: Sequence[ClientTask], privatizer: Privatizer
    ) -> Sequence[ClientResult]:
        """Train a round's clients; see `pfedmoap.engine.engines.Train`.

        Raises:
            RunError: A batch was not trained; nothing of the round counts then.
        """
        del method  # each node has its own
        round = tasks[0].download.round
        batches = list(client_batches(tasks, self.size(len(tasks))))
        nodes = sorted(self.fleet.present())[: len(batches)]
        silent = privatizer.server.secret_cohort
        contents = {}
        for node, batch in zip(nodes, batches, strict=True):
            clients = [task.download.client for task in batch]
            charged = None
            if isinstance(privatizer, ChargesSteps):
                charged = privatizer.hand_over(clients, round)
            contents[node] = pack_batch(Batch(batch, charged, silent))
        answers = self.fleet.ask("train", contents, str(round))
        results: list[ClientResult] = []
        for node, batch in zip(nodes, batches, strict=True):
            answer = answers[node]
            if isinstance(answer, Silence):
                raise RunError(
                    f"round {round}: a batch of {len(batch)} clients was not trained: "
                    f"{answer.reason}. The run goes on from its last round with --resume"
                )
            found, clipped = unpack_results(answer)
            results += found
            if isinstance(privatizer, ChargesSteps):
                privatizer.note_clipped(clipped)
        return results
