"""FedTPG: a network writes the prompt from the names of the classes (Qiu et al., ICLR 2024).

Full title: "Text-driven Prompt Generation for Vision-Language Models in Federated Learning", by
C. Qiu, X. Li, C. K. Mummadi, M. R. Ganesh, Z. Li, L. Peng and W.-Y. Lin, arXiv 2310.06123. With T
(C, D) the features of the class names in CLIP's text tower, the prompt is

    P = h(softmax(Q (T W_k)^T / sqrt(A)) T W_v),

Q (L, A) learned queries and h a small network. Clients train Q, W_k, W_v and h, the server averages
them, and all clients classify with what the average writes.

Where we depart: a client of the paper has classes of its own and writes its prompt from their
names alone; here all clients know all C names, and the task has no classes beyond them. One head
attends, without residuals or norms; h has one hidden layer of A units and ReLU.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode
from pfedmoap.config.bounds import Bounds
from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.prompts.tuning import template_features
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays


@dataclass(frozen=True)
class FedTPG(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        context_length: Context vectors L that the network writes.
        width: Width A of queries, keys, values and of the hidden layer.
    """

    context_length: Annotated[int, Bounds(ge=1, le=1024)] = 4
    context_init: str | None = field(default=None, init=False)  # no option: the network writes it
    class_specific: bool = field(default=False, init=False)  # no option: one for all classes
    width: Annotated[int, Bounds(ge=1, le=4096)] = 128

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the whole network is in the private step and is averaged."""
        return super().privacy_gap(mode)

    @cached_property
    def uploads(self) -> dict[str, ArraySpec]:
        """The network is uploaded."""
        backbone, width = self.setting.backbone, self.width
        shapes = {
            "queries": (self.context_length, width),
            "keys": (backbone.embed_dim, width),
            "values": (backbone.embed_dim, width),
            "hidden_weight": (width, width),
            "hidden_bias": (width,),
            "weight": (width, backbone.text_width),
            "bias": (backbone.text_width,),
        }
        return {name: ArraySpec(shape) for name, shape in shapes.items()}

    def init(self) -> Arrays:
        """Draw all arrays uniformly within 1 / sqrt(inputs), as `torch.nn.Linear` does."""
        stream = generator(self.setting.seed, "prompt generator")
        inputs = {
            "keys": self.setting.backbone.embed_dim,
            "values": self.setting.backbone.embed_dim,
        }
        return {
            name: (2 * torch.rand(spec.shape, generator=stream) - 1)
            / math.sqrt(inputs.get(name, self.width))
            for name, spec in self.uploads.items()
        }

    def compose(self, params: Arrays) -> Tensor:
        """Write the prompts of K clients, (K, L, W)."""
        keys, values = self._names @ params["keys"], self._names @ params["values"]
        scores = params["queries"] @ keys.mT / math.sqrt(self.width)
        attended = scores.softmax(-1) @ values
        hidden = attended @ params["hidden_weight"] + params["hidden_bias"].unsqueeze(-2)
        return hidden.relu() @ params["weight"] + params["bias"].unsqueeze(-2)

    @cached_property
    def _names(self) -> Tensor:
        """Features of the bare class names, (C, D)."""
        return template_features(self.setting, "{}")


METHOD = FedTPG
