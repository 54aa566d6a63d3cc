"""pFedPrompt: a common prompt beside a memory of the client's images (Guo et al., WWW 2023).

Full title: "pFedPrompt: Learning Personalized Prompt for Vision-Language Models in Federated
Learning", by T. Guo, S. Guo and J. Wang. The rounds are PromptFL's. To classify, a client adds to
the common prompt's logits what its own training images say, an attention without parameters:

    logit(c) = s <I, T(c)> + alpha sum over i with label c of exp(-beta (1 - <I, I_i>)).

Where we depart: the paper says what is attended to and that nothing is trained for it; the
exponential kernel and the values of alpha and beta are those of Tip-Adapter (Zhang et al., ECCV
2022, arXiv 2111.03930), since the text of the paper was not at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import NotNegative
from pfedmoap.contract.folding import Folded, refuse_to_fold
from pfedmoap.contract.tasks import ClientTask, Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.wire.messages import Arrays, ClientId, Download


@dataclass(frozen=True)
class PFedPrompt(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        alpha: Weight of the memory; 0 is PromptFL.
        beta: How fast an image of the memory loses its say with its distance.
    """

    alpha: NotNegative = 1.0
    beta: NotNegative = 5.5

    def privacy_gap(self, mode: Mode) -> str | None:
        """Rounds are those of the base; the memory is never uploaded."""
        return super().privacy_gap(mode)

    def class_bond(self) -> str | None:
        """See `IsBoundToClasses`: a memory has labels of the classes that it was made with."""
        return "a client's memory knows the classes of its training images, no others"

    def personalise(
        self, tasks: Sequence[ClientTask], privatizer: Privatizer
    ) -> dict[ClientId, Arrays]:
        """Make each client's memory; it is not private and stays there.

        Keys are the unit-norm means over the views of an image, (n, D); values their labels, (n,).
        """
        return {
            task.download.client: {
                "keys": F.normalize(task.data.features["image"].mean(1), dim=-1),
                "labels": task.data.labels.clone(),
            }
            for task in tasks
            if len(task.data)
        }

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Add the memory's say to the common prompt's logits, where there is a memory."""
        common = super().predict(download, None, features)
        if not local:
            return common
        return Prediction(common.logits + self.remembered(local, features["image"]))

    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: the common prompt alone, which is all that a run keeps."""
        if local:
            refuse_to_fold(
                "a client's memory is the features of its own training images, and whoever has the "
                "folder would have them; leave the memory out"
            )
        return super().fold(download, None)

    @torch.no_grad()
    def remembered(self, memory: Arrays, image: Tensor) -> Tensor:
        """Logits of the memory alone, from images (B, D) to (B, C)."""
        device, classes = self.setting.backbone.device, len(self.setting.class_names)
        likeness = image.to(device) @ memory["keys"].to(device).T
        values = F.one_hot(memory["labels"].to(device), classes).to(likeness.dtype)
        return self.alpha * torch.exp(-self.beta * (1 - likeness)) @ values


METHOD = PFedPrompt
