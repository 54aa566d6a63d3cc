"""Prompt + FedPer: some context vectors are averaged, the others never leave (arXiv 1912.00818).

Full title: "Federated Learning with Personalization Layers", by M. G. Arivazhagan, V. Aggarwal,
A. K. Singh and S. Choudhary, 2019. There the last layers of a network stay on the client; applied
to a prompt, as pFedMoAP's baseline of this name does, the last ``local_vectors`` of the context
vectors stay, those next to the class name.

Where we depart: the papers do not say which part of a prompt stays local, nor how much; ours is
half of it. All clients know the same starting values of the local part from the public seed, so
that a client that never took part can predict, too.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds
from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.errors import ConfigError
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedPer(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        context_length: Context vectors L, shared and local ones together.
        local_vectors: How many of the last context vectors stay on the client.
    """

    local_vectors: Annotated[int, Bounds(ge=1, le=1024)] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_specific:
            raise ConfigError(
                "local_vectors are those of one context for all classes: use class_specific false, "
                "or another method, e.g. promptfl"
            )
        if not 1 <= self.local_vectors < self.context_length:
            raise ConfigError(
                f"local_vectors must be at least 1 and below the context length "
                f"{self.context_length}, got {self.local_vectors}; `promptfl` shares all vectors "
                "and `local_coop` none"
            )

    def privacy_gap(self, mode: Mode) -> str | None:
        """Both parts of the prompt are in the private step; one is uploaded."""
        return super().privacy_gap(mode)

    @property
    def uploads(self) -> dict[str, ArraySpec]:
        """Only the shared context vectors are uploaded."""
        return {"shared": ArraySpec((self._shared, self.setting.backbone.text_width))}

    @property
    def own(self) -> Arrays:
        """The other vectors, (local_vectors, W)."""
        return {"own": self.initial_context[self._shared :]}

    def compose(self, params: Arrays) -> Tensor:
        """Join shared and own vectors to (K, L, W)."""
        return torch.cat([params["shared"], params["own"]], dim=1)

    def init(self) -> Arrays:
        """Start from the shared part of one prompt, (L - local_vectors, W)."""
        return {"shared": self.initial_context[: self._shared]}

    @property
    def _shared(self) -> int:
        return self.context_length - self.local_vectors


METHOD = FedPer
