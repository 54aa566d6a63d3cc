"""FedOTP: a shared and an own prompt, matched to image patches by optimal transport (CVPR 2024).

Full title: "Global and Local Prompts Cooperation via Optimal Transport for Federated Learning", by
H. Li, W. Huang, J. Wang and Y. Shi, arXiv 2403.00041. Each client has a global context, averaged
by the server, and a local one that never leaves it. For an image and a class c, a transport plan T
(M x 2) moves ``mass`` of the image's M local features to the class features of the two prompts at
cost 1 - cosine (eq. 7-9); the logit is ``s sum(T * cosine)``. The plan carries no gradient.

Defaults are the released ones: mass 0.8, entropy 0.1 (0.01 for few-shot data), at most 100
iterations; it trains with a step size of 0.001, which is recommended here. As there,
clients are evaluated after the round with the new global context and their own local one.

Where we depart: the iterations are always as many as asked for, where the released code stops when
a whole batch has converged, which would let an image's result depend on the others in its batch.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds, Positive, Share
from pfedmoap.config.recommended import Recommended
from pfedmoap.contract.folding import Folded
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.methods.fedotp.transport_problem import Transport, TransportProblem
from pfedmoap.seeding import derive_seed
from pfedmoap.wire.messages import Arrays, Download


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

    recommended: ClassVar[Recommended] = {"training": {"learning_rate": 1e-3}}

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
        return {"own": self.layout.initial(seed).cpu()}

    def compose(self, params: Arrays) -> Tensor:
        """Both prompts side by side, (K, 2, L, W)."""
        return torch.stack([params["context"], params["own"]], dim=1)

    def problem(self, start: Arrays) -> TransportProblem:
        """Match patches to both prompts."""
        scale = self.setting.backbone.logit_scale
        return TransportProblem(self.encoder, scale, self.compose, transport=self._transport)

    @torch.no_grad()
    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: class features of both prompts, and how patches are matched to them."""
        problem, text = self.encoded(self.prompt_of(download, local))
        options = {"scale": problem.scale, **asdict(self._transport)}
        return Folded("transport", options, {"text": text})

    @property
    def _transport(self) -> Transport:
        return Transport(self.mass, self.entropy, self.iterations)


METHOD = FedOTP
