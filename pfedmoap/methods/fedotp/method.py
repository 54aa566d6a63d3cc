"""FedOTP: a shared and an own prompt, matched to image patches by optimal transport (CVPR 2024).

Full title: "Global and Local Prompts Cooperation via Optimal Transport for Federated Learning", by
H. Li, W. Huang, J. Wang and Y. Shi, arXiv 2403.00041. Each client has a global context, averaged
by the server, and a local one that never leaves it. For an image and a class c, a transport plan T
(M x 2) moves ``mass`` of the image's M local features to the class features of the two prompts at
cost 1 - cosine (eq. 7-9); the logit is ``s sum(T * cosine)``. The plan carries no gradient.

Defaults are the released ones: mass 0.8, entropy 0.1 (0.01 for few-shot data), at most 100
iterations; it trains with a step size of 0.001, set by ``training.learning_rate``. As there,
clients are evaluated after the round with the new global context and their own local one.

Where we depart: the iterations are always as many as asked for, where the released code stops when
a whole batch has converged, which would let an image's result depend on the others in its batch.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds, Positive, Share
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.methods.fedotp.optimal_transport import transport_plan
from pfedmoap.prompts.initial import initial_context
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.seeding import derive_seed
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class Transport:
    """How local features are matched to prompts; see `transport_plan`.

    Attributes:
        mass: How much of an image is moved, in (0, 1].
        entropy: Weight of the entropy.
        iterations: Rounds of scaling.
    """

    mass: float
    entropy: float
    iterations: int

    def scores(self, patches: Tensor, text: Tensor) -> Tensor:
        """Sum the cosines that the plan selects.

        Args:
            patches: Unit-norm local features, (..., B, M, D).
            text: Unit-norm class features of P prompts, (..., P, C, D).

        Returns:
            Scores before the logit scale, (..., B, C).
        """
        prompts, classes = text.shape[-3:-1]
        flat = text.flatten(-3, -2).unsqueeze(-3)  # (..., 1, P C, D)
        cosine = (patches @ flat.mT).unflatten(-1, (prompts, classes))  # (..., B, M, P, C)
        cosine = cosine.movedim(-1, -3)  # (..., B, C, M, P)
        plan = transport_plan(1 - cosine.detach(), self.mass, self.entropy, self.iterations)
        selected: Tensor = (plan * cosine).sum((-2, -1))
        return selected


@dataclass(frozen=True)
class TransportProblem(PromptProblem):
    """Cross-entropy of the transported cosines of K clients' two prompts.

    Attributes:
        transport: The matching.
    """

    transport: Transport = field(kw_only=True)

    def logits(self, text: Tensor, features: Arrays) -> Tensor:
        """Match patches (..., B, M, D) to both prompts' class features (..., 2, C, D)."""
        return self.scale * self.transport.scores(features["patches"], text)


@dataclass(frozen=True)
class FedOTP(AveragedPrompt):
    """The method with its hyperparameters; defaults are the paper's.

    Attributes:
        context_length: Context vectors L of each of the two prompts.
        context_init: Words to start both contexts from; none draws each at random.
        mass: How much of an image is matched (their gamma).
        entropy: Weight of the entropy in the transport problem (their lambda).
        iterations: Rounds of scaling that solve it.
    """

    mass: Share = 0.8
    entropy: Positive = 0.1
    iterations: Annotated[int, Bounds(ge=1, le=100_000)] = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.setting.backbone.require_features(self.features)

    def privacy_gap(self, mode: Mode) -> str | None:
        """Both prompts are in the private step, and the plan couples one image with the classes."""
        return super().privacy_gap(mode)

    @property
    def features(self) -> tuple[str, ...]:
        """Needs the local features of an image."""
        return ("patches",)

    @cached_property
    def own(self) -> Arrays:
        """The local context, (L, W)."""
        seed = derive_seed(self.setting.seed, "own context")
        context = initial_context(
            self.setting.backbone, self.context_length, self.context_init, seed=seed
        )
        return {"own": context.cpu()}

    def compose(self, params: Arrays) -> Tensor:
        """Both prompts side by side, (K, 2, L, W)."""
        return torch.stack([params["context"], params["own"]], dim=1)

    def problem(self, start: Arrays) -> TransportProblem:
        """Match patches to both prompts."""
        transport = Transport(self.mass, self.entropy, self.iterations)
        scale = self.setting.backbone.logit_scale
        return TransportProblem(self.encoder, scale, self.compose, transport=transport)


METHOD = FedOTP
