"""Heads of models with one prompt, or with several that are matched to an image's patches."""

from collections.abc import Mapping

from torch import Tensor

from pfedmoap.contract.folding import Folded
from pfedmoap.exported.head import Answered, Head, sides_of
from pfedmoap.methods.fedclip import adapted
from pfedmoap.methods.fedotp.transport_problem import Transport
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.models.logits import cosine_logits
from pfedmoap.storage.strict_json import integer, number

MOST_ITERATIONS = 10_000


class CosineHead(Head):
    """``s <I, T(c)>``: ``text`` (C, D). PromptFL and all that classify with one prompt."""

    text: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ())
        self.keep(folded, text=(classes, None))

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        return cosine_logits(seen["image"], self.text, self.scale), None


class AdapterHead(Head):
    """FedCLIP: an attention over the coordinates of an image's feature, and ``text`` (C, D)."""

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ())
        _, width = sides_of(folded, "text", 2)
        matrix, vector = (width, width), (width,)
        self.keep(
            folded,
            text=(classes, width),
            hidden_weight=matrix,
            hidden_bias=vector,
            weight=matrix,
            bias=vector,
        )

    text: Tensor

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        return cosine_logits(
            adapted(dict(self.named_buffers()), seen["image"]), self.text, self.scale
        ), None


class TransportHead(Head):
    """FedOTP: an image's patches matched to ``text`` (P, C, D) by optimal transport."""

    reads = ("patches",)
    text: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ("mass", "entropy", "iterations"))
        self.keep(folded, text=(None, classes, None))
        mass, entropy = (number(folded.options[name], name) for name in ("mass", "entropy"))
        rounds = integer(folded.options["iterations"], "iterations", 1, MOST_ITERATIONS)
        if not 0 < mass <= 1 or entropy <= 0:
            raise ValueError(f"mass {mass} or entropy {entropy} is out of range")
        self.transport = Transport(mass, entropy, rounds)

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        return self.scale * self.transport.scores(seen["patches"], self.text), None
