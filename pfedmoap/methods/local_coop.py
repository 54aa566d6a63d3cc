"""Local CoOp: each client tunes a prompt alone (Zhou et al., IJCV 2022, arXiv 2109.01134).

Full title: "Learning to Prompt for Vision-Language Models", by K. Zhou, J. Yang, C. C. Loy and
Z. Liu. There is no communication at all: the line that federated learning has to beat.

Where we depart: a client goes on from its own prompt for as many epochs as the federated methods
train, rounds x epochs when it takes part in every round, with a constant step size and a momentum
that starts at zero in each round, as it does for all methods here. All clients know the same
starting prompt from the public seed; a client that never took part still has it.
"""

from dataclasses import dataclass, field

from pfedmoap.client.privatizer import Mode
from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.server.aggregation import Weighting
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class LocalCoOp(AveragedPrompt):
    """The method with its hyperparameters: all of the prompt is the client's own."""

    weighting: Weighting = field(default="examples", init=False)  # no option: nothing is averaged

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: clients train the prompt alone and upload nothing."""
        if mode in ("release", "central"):
            return "it uploads nothing, so that there is nothing to put noise on. Use mode joint"
        return super().privacy_gap(mode)

    def aggregation_gap(self) -> str:
        """See `AveragesByRule`."""
        return "local_coop uploads nothing that could be averaged"

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """Nothing is uploaded."""
        return {}

    @property
    def own(self) -> Arrays:
        """The whole prompt, (L, W)."""
        return {"context": self.initial_context}

    def init(self) -> Arrays:
        """Return an empty state."""
        return {}


METHOD = LocalCoOp
