"""Prompt + FedAMP: each client gets its own mix of similar clients' prompts (arXiv 2007.03797).

Full title: "Personalized Cross-Silo Federated Learning on Non-IID Data", by Y. Huang, L. Chu,
Z. Zhou, L. Wang, J. Liu, J. Pei and Y. Zhang, AAAI 2021. The server keeps everybody's last prompt
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pfedmoap.backbone.clip import PromptEncoder
from pfedmoap.errors import ConfigError
from pfedmoap.gradients import Mode, Privatizer, gap_of_one_phase
from pfedmoap.method import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.pool import ExpertPool
from pfedmoap.prompt_tuning import classify, tune_sent
from pfedmoap.prompts import initial_context
from pfedmoap.types import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class ServerState:
    """What the server knows.

    Attributes:
        initial: The prompt that everybody starts from, (L, W).
        prompts: Everybody's last prompt.
    """

    initial: Tensor
    prompts: ExpertPool


@dataclass(frozen=True)
class FedAMP:
    """The method with its hyperparameters.

    Attributes:
        setting: The task.
        sigma: Reach of similarity, in units of the mean squared distance between clients.
        step: How far a cloud prompt goes from the client's own towards the others', in (0, 1].
        proximal: Weight of the pull towards the cloud prompt.
        context_length: Context vectors L.
        context_init: Words to start the context from; none draws it at random.
    """

    setting: Setting
    sigma: float = 1.0
    step: float = 1.0
    proximal: float = 1.0
    context_length: int = 16
    context_init: str | None = None

    def __post_init__(self) -> None:
        if self.sigma <= 0 or not 0 < self.step <= 1 or self.proximal < 0:
            raise ConfigError(
                f"fedamp needs sigma > 0, 0 < step <= 1 and proximal >= 0, got sigma {self.sigma}, "
                f"step {self.step} and proximal {self.proximal}"
            )

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """Needs one global feature an image."""
        return ("image",)

    def privacy_gap(self, mode: Mode) -> str | None:
        """The prompt is all it trains."""
        return gap_of_one_phase(mode)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The prompt is uploaded."""
        return {"context": ArraySpec((self.context_length, self.setting.backbone.text_width))}

    def init(self) -> ServerState:
        """Start from one prompt and nobody's."""
        context = initial_context(
            self.setting.backbone, self.context_length, self.context_init, seed=self.setting.seed
        )
        return ServerState(context.cpu(), ExpertPool())

    def plan(self, state: ServerState, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send each client its cloud prompt."""
        cloud = self._cloud(state)
        newcomers = state.initial
        if len(state.prompts):
            everybody = torch.stack([state.prompts[client] for client in state.prompts.clients])
            newcomers = everybody.double().mean(0).to(everybody.dtype)
        return [
            Download(round, client, {"context": cloud.get(client, newcomers)})
            for client in sorted(cohort)
        ]

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Tune the cloud prompt on the client's images, pulled back to where it came from."""
        tuned = tune_sent(tasks, self.setting, privatizer, self._encoder, proximal=self.proximal)
        return [client.result(client.params, keeps=client.params) for client in tuned]

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Remember the prompts."""
        prompts = {update.client: update.arrays["context"] for update in updates}
        return ServerState(state.initial, state.prompts.put(prompts))

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with the client's own prompt; a newcomer uses what it is sent."""
        context = download.arrays["context"] if local is None else local["context"]
        return classify(self._encoder, context, self.setting, features["image"])

    def predict_global(self, state: ServerState, features: Arrays) -> None:
        """There is no global model."""

    def to_arrays(self, state: ServerState) -> Arrays:
        """The initial prompt and everybody's."""
        return {"initial": state.initial, **state.prompts.to_arrays()}

    def from_arrays(self, arrays: Arrays) -> ServerState:
        """Inverse of `to_arrays`."""
        return ServerState(arrays["initial"], ExpertPool.from_arrays(arrays))

    def _cloud(self, state: ServerState) -> dict[ClientId, Tensor]:
        """The cloud prompt of each client that has one, (L, W)."""
        clients = state.prompts.clients
        if not clients:
            return {}
        prompts = torch.stack([state.prompts[client] for client in clients])
        flat = prompts.flatten(1).double()  # (N, L W)
        mixed = message_weights(flat, self.sigma, self.step) @ flat
        return dict(zip(clients, mixed.to(prompts.dtype).view_as(prompts), strict=True))

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return self.setting.backbone.prompt_encoder(self.setting.class_names, self.context_length)


def message_weights(prompts: Tensor, sigma: float, step: float) -> Tensor:
    """Weigh every client's prompt for every client (eq. 6, with our scale-free constants).

    Args:
        prompts: N prompts, (N, d).
        sigma: Reach of similarity in units of the mean squared distance between two clients.
        step: Weight of all others together where all prompts are equal, times N / (N - 1).

    Returns:
        (N, N); rows are positive and sum to 1.
    """
    count = len(prompts)
    squared = torch.cdist(prompts, prompts, compute_mode="donot_use_mm_for_euclid_dist").pow(2)
    mean = squared.sum() / max(1, count * (count - 1))
    reach = sigma * mean.clamp(min=torch.finfo(prompts.dtype).tiny)
    weights = step / count * torch.exp(-squared / reach)
    weights.fill_diagonal_(0)
    return weights + torch.diag(1 - weights.sum(1))


METHOD = FedAMP
