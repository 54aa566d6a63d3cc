"""Classifying by matching an image's local features to the class features of several prompts."""

from dataclasses import dataclass, field

from torch import Tensor

from pfedmoap.methods.fedotp.optimal_transport import transport_plan
from pfedmoap.prompts.tuning import PromptProblem
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
