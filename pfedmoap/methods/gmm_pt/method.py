"""GMM-PT: prompts clustered by a Bayesian Gaussian mixture, whose means are the new set.

A baseline of PFPT ("Probabilistic Federated Prompt-Tuning with Non-IID and Imbalanced Data", Weng
et al., NeurIPS 2024, arXiv 2502.19752): the server clusters all clients' prompts together. Like
PFPT it has no order of prompts; unlike PFPT, two prompts of one client may end in one
cluster, and the size of the set is given.

The paper says no more of it than this. Ours is a mixture with diagonal covariances and conjugate
priors, fitted to its maximum a posteriori by EM from the present set (`mixture_means`); a component
that loses all its prompts stays where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds, Positive
from pfedmoap.methods.gmm_pt.gaussian_mixture import mixture_means
from pfedmoap.methods.prompt_set import PromptSet
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.server.aggregation import Weighting
from pfedmoap.wire.messages import Arrays, Update


@dataclass(frozen=True)
class GMMPT(PromptSet):
    """The method with its hyperparameters.

    Attributes:
        concentration: How many prompts' worth of prior each component's weight has.
        iterations: EM steps.
    """

    weighting: Weighting = field(default="uniform", init=False)  # no option: a prompt is a prompt
    concentration: Positive = 1.0
    iterations: Annotated[int, Bounds(ge=1, le=100_000)] = 50

    def privacy_gap(self, mode: Mode) -> str | None:
        """Clients train as their base says; the server does not average."""
        return super().privacy_gap(mode)

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Fit a mixture to all prompts; its means are the new set."""
        if not updates:
            return state
        ordered = sorted(updates, key=lambda update: update.client)
        prompts = torch.cat([update.arrays[PROMPTS].flatten(1) for update in ordered])
        old = state[PROMPTS]
        means = mixture_means(prompts, old.flatten(1), self.concentration, self.iterations)
        return {PROMPTS: means.view_as(old)}

    def aggregation_gap(self) -> str:
        """See `AveragesByRule`."""
        return "gmm_pt fits a mixture of Gaussians to all prompts, and averages none by position"


METHOD = GMMPT
