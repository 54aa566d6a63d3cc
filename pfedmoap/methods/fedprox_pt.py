"""FedProx-PT: FedAvg-PT with a pull towards the global prompts (Li et al., MLSys 2020).

Full title: "Federated Optimization in Heterogeneous Networks", by T. Li, A. K. Sahu, M. Zaheer, M.
Sanjabi, A. Talwalkar and V. Smith, arXiv 1812.06127, on the visual prompts of PFPT (arXiv
2502.19752), whose baseline it is. Clients minimise their loss plus ``mu / 2 ||P - P_g||^2`` (eq.
2), where P_g is the set that they received this round.

Where we depart: PFPT does not state its mu; ours is small, since Adam feels a pull where SGD with
small gradients does not: with the 0.5 of our `fedprox` tokens hardly leave their start. A pull
moves no prompt that is where it was sent, so that prompts without use stay exact copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import NotNegative
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.methods.prompt_set import PromptSet
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.prompts.set_tuning import PromptSetProblem
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedProxPT(PromptSet):
    """The method with its hyperparameters.

    Attributes:
        mu: Weight of the pull; 0 is FedAvg-PT.
    """

    mu: NotNegative = 0.01

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the proximal term depends on no data."""
        return super().privacy_gap(mode)

    def problem(self, tasks: Sequence[ClientTask], start: Arrays) -> PromptSetProblem:
        """Add a proximal term around the set that was sent."""
        pulled = super().problem(tasks, start)
        return replace(pulled, proximal=self.mu, anchor=start[PROMPTS])


METHOD = FedProxPT
