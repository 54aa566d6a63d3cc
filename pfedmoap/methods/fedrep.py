"""Prompt + FedRep: first the own vectors are trained, then the shared ones (arXiv 2102.07078).

Full title: "Exploiting Shared Representations for Personalized Federated Learning", by L. Collins,
H. Hassani, A. Mokhtari and S. Shakkottai, ICML 2021. There a client fits its own head to the
representation that it was sent, for many steps, then takes few steps on the representation with
the head fixed, and uploads the latter alone (Algorithm 1, by general knowledge of the paper). On a
prompt, divided as in `fedper`, the own vectors next to the class name are the head and the shared
ones before them the representation.

Where we depart: the server weights clients by their training sets (``weighting="uniform"`` is the
paper's mean); all clients know the same starting values of the own part from the public seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.client.problem import Problem
from pfedmoap.config.bounds import Count
from pfedmoap.contract.stacking import TrainedClient, stack
from pfedmoap.contract.tasks import ClientResult, ClientTask
from pfedmoap.methods.fedper import FedPer
from pfedmoap.prompts.tuning import tune
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedRep(FedPer):
    """The method with its hyperparameters.

    Attributes:
        shared_epochs: Passes that train the shared vectors (their tau_phi), after those that train
            the own ones, which are the training's (their tau_h).
    """

    shared_epochs: Count = 1

    def privacy_gap(self, mode: Mode) -> str | None:
        """Noise on uploads or on their mean covers them however they were trained."""
        if mode in ("release", "central"):
            return super().privacy_gap(mode)
        return (
            "it takes two sets of steps on the same examples in a round, and the budget is planned "
            "for one. Use `--privacy release`, or fedper in mode joint"
        )

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train the own vectors with the shared ones fixed, then the other way round."""
        heads = self.tune_part("own", tasks, privatizer, self.setting.training)
        fitted = [replace(head.task, local=head.params) for head in heads]
        shared = replace(self.setting.training, epochs=self.shared_epochs, local_steps=None)
        trained = self.tune_part("shared", fitted, privatizer, shared)
        return [client.result(client.params, keeps=client.task.local or {}) for client in trained]

    def tune_part(
        self, name: str, tasks: Sequence[ClientTask], privatizer: Privatizer, training: Training
    ) -> list[TrainedClient]:
        """Train one part of the prompt, ``own`` or ``shared``, and hold the other fixed."""

        def begin(batch: list[ClientTask]) -> tuple[Problem, Arrays]:
            parts = [self.parts(task.download, task.local) for task in batch]
            start = stack(parts, self.setting.backbone.device)
            trained = {name: start.pop(name)}
            return replace(self.problem({**start, **trained}), fixed=start), trained

        setting = replace(self.setting, training=training)
        return tune(tasks, setting, privatizer, begin, phase=name)


METHOD = FedRep
