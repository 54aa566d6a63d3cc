"""Heads of models with a set of prompts, of which each image has the nearest."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pfedmoap.contract.folding import Folded, Scalar
from pfedmoap.exported.head import Answered, Head, sides_of
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.prompts.set_selection import cosine
from pfedmoap.storage.strict_json import integer

MOST_PROMPTS = 10_000


class TextSetHead(Head):
    """A set of text contexts: mean logits over the ones nearest to an image, ``text`` (n, C, D)."""

    text: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ("all", "chosen"))
        self.keep(folded, text=(None, classes, None))
        self.nearest = _nearest(folded.options, len(self.text))

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        image = seen["image"]
        chosen = self.nearest(cosine(image, self.text.mean(1)))  # (B, k)
        each = cosine_logits(image, self.text.flatten(0, 1), self.scale)
        each = each.unflatten(-1, self.text.shape[:2])  # (B, n, C)
        index = chosen.unsqueeze(-1).expand(-1, -1, self.classes)
        return each.gather(1, index).mean(1), None


class VisualSetHead(Head):
    """Prompt tokens ``prompts`` (n, W) inside the tower; ``text`` (C, D) or a trained head."""

    reads = ("tokens", "class_token")
    prompts: Tensor
    text: Tensor
    projection: Tensor
    head_hidden: Tensor
    head_hidden_bias: Tensor
    head_output: Tensor
    head_output_bias: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ("all", "chosen"))
        self.vision = tower.prompted()
        width = self.vision.width
        shapes: dict[str, tuple[int | None, ...]] = {PROMPTS: (None, width)}
        if "projection" in folded.arrays:
            shapes["projection"] = (width, width)
        if "text" in folded.arrays:
            shapes["text"] = (classes, None)
        else:
            hidden, dim = sides_of(folded, "head_hidden", 2)
            shapes |= {"head_hidden": (hidden, dim), "head_hidden_bias": (hidden,)}
            shapes |= {"head_output": (classes, hidden), "head_output_bias": (classes,)}
        self.keep(folded, **shapes)
        self.projects, self.texts = "projection" in shapes, "text" in shapes
        self.nearest = _nearest(folded.options, len(self.prompts))

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        query = seen["class_token"]
        query = query @ self.projection.mT if self.projects else query
        chosen = self.nearest(cosine(query, self.prompts))  # (B, k)
        image = self.vision(seen["tokens"], self.prompts[chosen])
        if self.texts:
            return cosine_logits(image, self.text, self.scale), None
        hidden = image @ self.head_hidden.mT + self.head_hidden_bias
        return hidden @ self.head_output.mT + self.head_output_bias, None


def _nearest(options: Mapping[str, Scalar], prompts: int) -> Callable[[Tensor], Tensor]:
    """From similarities (B, n) to the places of each image's prompts, (B, k).

    Unlike `Selection.nearest`, in no order of their own, which no answer depends on: ONNX has no
    stable sort.
    """
    count = min(integer(options["chosen"], "chosen", 1, MOST_PROMPTS), prompts)
    if options["all"] is True:
        return lambda similarity: torch.arange(prompts, device=similarity.device).expand(
            similarity.shape
        )
    return lambda similarity: similarity.topk(count, dim=-1).indices
