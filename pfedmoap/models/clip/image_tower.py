"""The image half of a CLIP: from preprocessed images to the kinds of features that methods read."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import BackboneError, ShapeError
from pfedmoap.models.clip.half_precision import computes_in
from pfedmoap.models.clip.image_tokens import PromptedVision, TokenTower, find_tokens
from pfedmoap.models.clip.patches import PatchTower, find_patches
from pfedmoap.models.clip.preprocessing import Preprocessing

RAW = ("pixels", "tokens")  # kinds of features that are not of unit norm


class ImageTower:
    """A frozen image tower with its preprocessing.

    Args:
        visual: The image tower of any open_clip model.
        preprocessing: The preprocessing of its images.
        name: The model's name in messages.
        encode: From images (B, 3, H, W) to image features (B, D) as the whole model makes them;
            ``None`` takes the tower's own first output.

    Attributes:
        visual: As given.
        preprocessing: As given.
        name: As given.
    """

    def __init__(
        self,
        visual: nn.Module,
        preprocessing: Preprocessing,
        name: str,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.visual, self.preprocessing, self.name = visual, preprocessing, name
        self._encode_image = self._first_output if encode is None else encode
        self._patches = find_patches(visual)
        self._tokens = find_tokens(visual)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(next(iter(self.visual.parameters())).device)

    @property
    def feature_kinds(self) -> tuple[str, ...]:
        """Kinds of image features that `features` can give for this tower."""
        patches = ("patches",) if isinstance(self._patches, PatchTower) else ()
        tokens = ("tokens", "class_token") if isinstance(self._tokens, TokenTower) else ()
        return ("image", *patches, *tokens, "pixels")

    def require_features(self, kinds: Sequence[str]) -> None:
        """Ask for kinds of features before any work begins.

        Raises:
            BackboneError: The tower cannot give one of them; the message says why, and what can.
        """
        for kind in kinds:
            if kind in self.feature_kinds:
                continue
            if kind in ("tokens", "class_token"):
                raise BackboneError(
                    f"{self.name} has no features of kind {kind!r}: {self._tokens}; use a backbone "
                    "whose image tower is open_clip's own ViT, such as the embedded one or "
                    "ViT-B-16, or a method's text form (--method.modality text)"
                )
            if kind != "patches":
                raise BackboneError(
                    f"there are no features of kind {kind!r}; kinds: image, patches, tokens, "
                    "class_token, pixels"
                )
            raise BackboneError(
                f"{self.name} has no features of kind 'patches': {self._patches}; use a backbone "
                "whose image tower is open_clip's own ViT or ResNet, such as the embedded one, "
                "ViT-B-16 or RN50"
            )

    @torch.no_grad()
    def features(self, images: Tensor, kinds: Sequence[str] = ("image",)) -> dict[str, Tensor]:
        """Encode preprocessed images; see `pfedmoap.models.clip.clip.FrozenCLIP.features`.

        Raises:
            ShapeError: The images have another shape.
            BackboneError: The tower cannot give a kind of feature.
        """
        size = self.preprocessing.size
        if images.dim() != 4 or images.shape[1:] != (3, size, size):
            raise ShapeError(
                f"images have shape {tuple(images.shape)}, expected (B, 3, {size}, {size})"
            )
        self.require_features(kinds)
        pixels = images.float()
        encoded = [kind for kind in kinds if kind != "pixels"]
        found = self.encode(images, encoded) if encoded else {}
        found["pixels"] = pixels
        return {
            kind: found[kind].float() if kind in RAW else F.normalize(found[kind].float(), dim=-1)
            for kind in kinds
        }

    def encode(self, images: Tensor, kinds: Sequence[str]) -> dict[str, Tensor]:
        """Run the tower once, differentiably; features are neither normalised nor cast.

        Args:
            images: Preprocessed images, (B, 3, H, W).
            kinds: Which features to record besides ``image``.
        """
        images = images.to(self.device, computes_in(self.visual), non_blocking=True)
        recording: AbstractContextManager[dict[str, Tensor]] = nullcontext({})
        if {"tokens", "class_token"} & set(kinds) and isinstance(self._tokens, TokenTower):
            recording = self._tokens.recording()
        with recording as tokens:
            if "patches" in kinds and isinstance(self._patches, PatchTower):
                with self._patches.recording() as recorded:
                    image = self._encode_image(images)
                return {"image": image, "patches": self._patches.project(recorded[0]), **tokens}
            return {"image": self._encode_image(images), **tokens}

    def prompted(self) -> PromptedVision:
        """Make the function from cached tokens and visual prompts to image features.

        Raises:
            BackboneError: The image tower has no place for prompt tokens; the message says why.
        """
        return PromptedVision(self.token_tower)

    @property
    def token_tower(self) -> TokenTower:
        """The parts of the image tower.

        Raises:
            BackboneError: It is not open_clip's own ViT; the message says why.
        """
        self.require_features(["tokens"])
        return cast(TokenTower, self._tokens)

    def _first_output(self, images: Tensor) -> Tensor:
        """CoCa's tower gives the image feature and all tokens; others the feature alone."""
        found = self.visual(images)
        image: Tensor = found[0] if isinstance(found, tuple) else found
        return image
