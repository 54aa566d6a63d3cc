"""An exported model: image tower and head, from preprocessed images to probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pfedmoap.contract.folding import Folded
from pfedmoap.contract.tasks import Prediction
from pfedmoap.errors import RunError
from pfedmoap.exported.head import Answered
from pfedmoap.exported.heads import make_head
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.models.clip.preprocessing import Preprocessing


class ExportedModel(nn.Module):
    """One client's model without a text tower; a module that ONNX and ``torch.export`` can read.

    Args:
        visual: The image tower, frozen, on its device.
        preprocessing: Of its images.
        folded: What is behind the tower.
        class_names: C names in label order.
        name: The backbone's name, for messages.

    Raises:
        RunError: Tower and head do not fit.
    """

    def __init__(
        self,
        visual: nn.Module,
        preprocessing: Preprocessing,
        folded: Folded,
        class_names: Sequence[str],
        name: str,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.class_names = tuple(class_names)
        self.experts = folded.experts
        self.tower = ImageTower(visual, preprocessing, name)
        self.head = make_head(folded, self.tower, len(self.class_names))
        self._check()

    @property
    def preprocessing(self) -> Preprocessing:
        """Of its images."""
        return self.tower.preprocessing

    @property
    def backbone_name(self) -> str:
        """Of the frozen model that the tower was taken from."""
        return self.tower.name

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify.

        Args:
            pixels: Preprocessed images, (B, 3, S, S) float32.

        Returns:
            Probabilities, (B, C).
        """
        return self.answer(pixels)[0].softmax(-1)

    def answer(self, pixels: Tensor) -> Answered:
        """Return logits (B, C), and attention (B, C, E) where there is a gate."""
        found: Answered = self.head(self.tower.features(pixels, self.head.reads))
        return found

    @torch.no_grad()
    def predict(self, pixels: Tensor) -> Prediction:
        """Classify preprocessed images (B, 3, S, S)."""
        logits, attention = self.answer(pixels)
        return Prediction(logits, attention, self.experts if attention is not None else ())

    def _check(self) -> None:
        """Classify one grey image: shapes that do not fit show here, not at the first question."""
        side, classes = self.preprocessing.size, len(self.class_names)
        try:
            found = self.predict(torch.zeros(1, 3, side, side, device=self.tower.device))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"the model's head does not fit its image tower: {reason}") from error
        weights = found.attention
        wrong = weights is not None and weights.shape != (1, classes, 1 + len(self.experts))
        if found.logits.shape != (1, classes) or wrong:
            raise RunError("the model's head is damaged: it answers about other classes or experts")
        if not bool(torch.isfinite(found.logits).all()):
            raise RunError("the model is damaged: its answers are no numbers")
