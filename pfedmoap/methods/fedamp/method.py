"""Prompt + FedAMP: each client gets its own mix of similar clients' prompts (arXiv 2007.03797).

Full title: "Personalized Cross-Silo Federated Learning on Non-IID Data", by Y. Huang, L. Chu,
Z. Zhou, L. Wang, J. Liu, J. Pei and Y. Zhang, AAAI 2021. The server keeps each client's last prompt
w_i and makes a cloud prompt for each client. With A(x) = 1 - exp(-x / sigma), by general knowledge
of the method rather than from the paper's text:

    u_i = xi_ii w_i + sum_{j != i} xi_ij w_j,    xi_ij = (alpha / sigma) exp(-|w_i - w_j|^2 / sigma)

The client minimises its loss plus ``lambda / (2 alpha) ||w - u_i||^2``; our ``proximal`` is their
lambda / alpha.

Where we depart: the paper tunes alpha and sigma on each data set, and a large alpha makes weights
negative. Ours are free of scale: ``sigma`` counts in units of the mean squared distance between
clients, and alpha / sigma is ``step`` / N for N prompts, so that weights are never negative, and
equal prompts get equal weights. The few steps of SGD that stand for the paper's exact minimum start
at u_i, not at w_i. A client without a prompt on the server gets the plain mean, or the common
initial prompt before there are any.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import NotNegative, Positive, Share
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ClientResult
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.methods.fedamp.cloud_prompts import cloud_prompts
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.server.aggregation import Weighting
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

INITIAL = "initial"  # the initial prompt of all clients, kept beside the pool of prompts


@dataclass(frozen=True)
class FedAMP(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        sigma: Reach of similarity, in units of the mean squared distance between clients.
        step: How far a cloud prompt goes from the client's own towards the others', in (0, 1].
        proximal: Weight of the pull towards the cloud prompt.
    """

    weighting: Weighting = field(default="uniform", init=False)  # no option: similarity weighs
    sigma: Positive = 1.0
    step: Share = 1.0
    proximal: NotNegative = 1.0

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the server weighs uploads pairwise, and does not average."""
        return super().privacy_gap(mode)

    def init(self) -> Arrays:
        """Start from one initial prompt and no clients' prompts."""
        return {INITIAL: self.initial_context}

    def plan(self, state: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send each client its cloud prompt; a newcomer the plain mean, or the initial prompt."""
        pool = ExpertPool.from_arrays(state)
        cloud = cloud_prompts(pool, self.sigma, self.step)
        prompts = [pool[client] for client in pool.clients] or [state[INITIAL]]
        newcomers = torch.stack(prompts).double().mean(0).to(prompts[0].dtype)
        return [
            Download(round, client, {"context": cloud.get(client, newcomers)})
            for client in sorted(cohort)
        ]

    def problem(self, start: Arrays) -> PromptProblem:
        """Add a proximal term around the cloud prompt that was sent."""
        return replace(super().problem(start), proximal=self.proximal, anchor=start["context"])

    def divide(self, client: TrainedClient) -> ClientResult:
        """Upload the prompt, and keep it to classify with."""
        return client.result(client.params, keeps=client.params)

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Replace the prompts of the clients that took part."""
        prompts = {update.client: update.arrays["context"] for update in updates}
        pool = ExpertPool.from_arrays(state).put(prompts)
        return {INITIAL: state[INITIAL], **pool.to_arrays()}

    def aggregation_gap(self) -> str:
        """See `AveragesByRule`."""
        return "fedamp averages nothing: its server mixes a prompt for each client by similarity"

    def forget(self, state: Arrays, client: ClientId) -> Arrays:
        """Take a client's prompt out of the pool; see `CanForget`."""
        return {
            INITIAL: state[INITIAL],
            **ExpertPool.from_arrays(state).without(client).to_arrays(),
        }

    def forget_local(self, local: Arrays, client: ClientId) -> Arrays:
        """Change nothing: clients hold no prompt of another one."""
        del client
        return local

    def prompt_of(self, download: Download, local: Arrays | None) -> Arrays:
        """Classify with the client's own prompt; a newcomer uses what it is sent."""
        return download.arrays if local is None else local

    def predict_global(self, state: Arrays, features: Arrays) -> None:
        """There is no global model."""


METHOD = FedAMP
