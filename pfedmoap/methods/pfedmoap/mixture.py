"""The local problem of a prompt that is trained together with a gate over frozen experts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pfedmoap.client.problem import OF_CLIENTS, Problem
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.logits import cosine_logits, cross_entropy
from pfedmoap.wire.messages import Arrays

GATE = "gate."  # prefix of the gate's parameters among a client's


@dataclass(frozen=True)
class Mixture:
    """How the gate's scores and the own prompt make logits (pFedMoAP, eq. 10).

    Attributes:
        gate: The gate's form; its weights are handed in.
        scale: Logit scale s.
        own_weight: Weight lambda of the own prompt beside the mixture.
    """

    gate: nn.Module
    scale: float
    own_weight: float

    def logits(self, gate: Arrays, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Classify one client's images: ``s sim(I, T_MoE(c)) + lambda s <I, T(c)>`` (eq. 10).

        Args:
            gate: The gate's weights by name.
            image: Unit-norm image features, (B, D).
            text: Unit-norm class features of E experts, the own prompt's first, (E, C, D).

        Returns:
            Logits (B, C) and the weight of each expert, (B, C, E).
        """
        scores, attention = functional_call(self.gate, dict(gate), (image, text))
        own = cosine_logits(image, text[0], self.scale)
        return self.scale * scores + self.own_weight * own, attention


@dataclass(frozen=True)
class MixtureProblem(Problem):
    """Cross-entropy of K clients' mixtures.

    Attributes:
        encoder: From contexts (K, L, W) to class features (K, C, D).
        mixture: How logits are made.
        experts: Class features of the frozen experts, (K, k, C, D).
    """

    encoder: PromptEncoder
    mixture: Mixture
    experts: Tensor = field(metadata=OF_CLIENTS)

    def represent(self, params: Arrays) -> Arrays:
        """Encode the own prompts."""
        return {"text": self.encoder(params["context"])}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        text = torch.cat([shared["text"].unsqueeze(1), self.experts], dim=1)  # (K, 1 + k, C, D)
        return _mixture_losses(self.mixture, params, text, features, labels)


@dataclass(frozen=True)
class GateProblem(Problem):
    """Cross-entropy of K clients' mixtures as a function of the gates alone.

    Attributes:
        mixture: How logits are made.
        text: Class features of the finished own prompts and the experts, (K, 1 + k, C, D).
    """

    mixture: Mixture
    text: Tensor = field(metadata=OF_CLIENTS)

    def represent(self, params: Arrays) -> Arrays:
        """Nothing depends on the gates alone."""
        del params
        return {}

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        del shared
        return _mixture_losses(self.mixture, params, self.text, features, labels)


def _mixture_losses(
    mixture: Mixture, params: Arrays, text: Tensor, features: Arrays, labels: Tensor
) -> Tensor:
    gates = {name.removeprefix(GATE): v for name, v in params.items() if name.startswith(GATE)}
    logits, _ = vmap(mixture.logits)(gates, features["image"], text)  # (K, B, C)
    return cross_entropy(logits, labels)
