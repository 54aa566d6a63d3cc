"""Prompt + FedProx: PromptFL with a pull towards the global prompt (Li et al., MLSys 2020).

Full title: "Federated Optimization in Heterogeneous Networks", by T. Li, A. K. Sahu, M. Zaheer,
M. Sanjabi, A. Talwalkar and V. Smith, arXiv 1812.06127. Clients minimise their loss plus
``mu / 2 ||P - P_g||^2`` (eq. 2), where P_g is the prompt that they received this round.

Where we depart from pFedMoAP's released baseline of this name: there the term is built from
detached tensors and has no gradient, so that it is PromptFL; here it pulls. ``mu`` defaults to
that code's 0.5.
"""

from dataclasses import dataclass, replace

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import NotNegative
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedProx(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        mu: Weight of the pull; 0 is PromptFL.
    """

    mu: NotNegative = 0.5

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the proximal term depends on no data."""
        return super().privacy_gap(mode)

    def problem(self, start: Arrays) -> PromptProblem:
        """Add a proximal term around the prompt that was sent."""
        return replace(super().problem(start), proximal=self.mu, anchor=start["context"])


METHOD = FedProx
