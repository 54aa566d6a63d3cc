"""`FrozenCLIP`: a frozen open_clip model with the operations that prompt learning needs."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.image_tokens import PromptedVision, TokenTower
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.models.clip.plain_text import PlainPromptEncoder, token_embedding
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.clip.shared_prefix import SharedPrefixEncoder, TextTower, shareable_tower
from pfedmoap.models.clip.tokens import (
    ClassPosition,
    Tokenizer,
    end_positions,
    prompt_tokens,
    refuse_cut_off,
)
from pfedmoap.models.fingerprint import PROBE, fingerprint
from pfedmoap.models.memory import ActivationBound


class PromptEncoder(Protocol):
    """Maps contexts (E, L, W) to unit-norm class features (E, C, D), differentiably."""

    def __call__(self, contexts: Tensor) -> Tensor:
        """Encode; see `SharedPrefixEncoder.forward`."""
        ...


class FrozenCLIP:
    """A vision-language model that is never trained.

    Args:
        model: Any open_clip model object (``CLIP``, ``CustomTextCLIP``, ``CoCa``), wherever its
            weights come from. It is frozen and put into evaluation mode.
        tokenizer: Maps N texts to token ids (N, T).
        preprocessing: The preprocessing of the model's images.
        name: Its name in messages and tables.

    Attributes:
        model: The model, frozen.
        tokenizer: As given.
        images: The image tower.

    Examples:
        >>> clip = FrozenCLIP.embedded()
        >>> encode = clip.prompt_encoder(["cat", "dog"], context_length=4)
        >>> encode(torch.zeros(3, 4, clip.text_width)).shape
        torch.Size([3, 2, 128])
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        preprocessing: Preprocessing,
        name: str = "custom",
    ) -> None:
        self.name = name
        self.preprocessing = preprocessing
        frozen: Any = model.eval().requires_grad_(False)
        self.model = frozen
        self.tokenizer = tokenizer
        self._shareable = shareable_tower(model)
        self.images = ImageTower(frozen.visual, preprocessing, name, frozen.encode_image)
        self.logit_scale = float(frozen.logit_scale.exp())

    @classmethod
    def embedded(cls, device: str | torch.device = "cpu") -> "FrozenCLIP":
        """Load the small model that ships inside the package; needs no network."""
        from pfedmoap.models.clip.embedded import load_embedded

        model, tokenizer, preprocessing = load_embedded()
        return cls(model.to(device), tokenizer, preprocessing, name="embedded")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(next(iter(self.model.parameters())).device)

    @property
    def text_width(self) -> int:
        """Width W of one context vector."""
        return int(self._embedding.weight.shape[-1])

    @cached_property
    def embed_dim(self) -> int:
        """Width D of the joint space of images and texts."""
        return int(self.text_features(["a"]).shape[-1])

    @property
    def sharing(self) -> str:
        """``shared prefix``, or ``plain: `` and the reason in the model's structure."""
        return (
            "shared prefix"
            if isinstance(self._shareable, TextTower)
            else (f"plain: {self._shareable}")
        )

    @property
    def feature_kinds(self) -> tuple[str, ...]:
        """Kinds of image features that `features` can give for this model."""
        return self.images.feature_kinds

    def require_features(self, kinds: Sequence[str]) -> None:
        """Ask for kinds of features before any work begins.

        Raises:
            BackboneError: The model cannot give one of them; the message says why, and what can.
        """
        self.images.require_features(kinds)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over both towers and the tokeniser; in run directories and the cache's key."""
        tokens = self.tokenizer(list(PROBE)).tolist()
        return fingerprint(self.model, repr(tokens), repr(self.preprocessing))

    @torch.no_grad()
    def features(self, images: Tensor, kinds: Sequence[str] = ("image",)) -> dict[str, Tensor]:
        """Encode preprocessed images into the kinds of features that methods ask for.

        Args:
            images: Preprocessed images, (B, 3, H, W).
            kinds: ``image`` gives (B, D); ``patches`` gives M local features of each image, in
                the same space, (B, M, D); ``tokens`` gives what enters a ViT's blocks,
                (B, 1 + M, W), and ``class_token`` the class token that leaves them, before its
                projection, (B, W); asking for several costs one pass. ``pixels`` gives the
                preprocessed images themselves, (B, 3, H, W), and costs none.

        Returns:
            Float32 features by kind; all but pixels and tokens of unit norm along the last axis.

        Raises:
            ShapeError: The images have another shape.
            BackboneError: The model cannot give a kind of feature.
        """
        return self.images.features(images, kinds)

    def image_features(self, images: Tensor) -> Tensor:
        """Encode preprocessed images (B, 3, H, W) to unit-norm float32 features (B, D)."""
        return self.features(images)["image"]

    def differentiable_image_features(self, images: Tensor) -> Tensor:
        """Encode like `image_features`, differentiably with respect to the pixels.

        Args:
            images: Preprocessed images, (B, 3, H, W).

        Returns:
            Unit-norm float32 features, (B, D).
        """
        return F.normalize(self.images.encode(images, ["image"])["image"].float(), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Encode whole sentences to unit-norm float32 features, (N, D)."""
        tokens = self.tokenise(texts).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    @torch.no_grad()
    def embed_words(self, text: str) -> Tensor:
        """Embed the tokens of ``text`` as context vectors.

        Args:
            text: Words, e.g. ``a photo of a``.

        Returns:
            One float32 vector a token, (L, W).
        """
        tokens = prompt_tokens(self.tokenizer, [text], context_length=1)
        start = tokens.start + 1  # behind the one placeholder
        ids = tokens.ids[0, start : int(tokens.lengths[0]) - 2]  # without the stop and end tokens
        return self._embedding(ids.to(self.device)).float()  # type: ignore[no-any-return]

    def prompt_encoder(
        self,
        class_names: Sequence[str],
        context_length: int,
        *,
        class_position: ClassPosition = "end",
        shared_prefix: bool = True,
        memory_bytes: int | None = None,
        one_block: bool | None = None,
    ) -> PromptEncoder:
        """Make the function from contexts to class features.

        Args:
            class_names: C names in label order.
            context_length: Number L of context vectors.
            class_position: Where the class name stands; only ``end`` can share the prefix.
            shared_prefix: Share the prefix where the model's structure allows it. ``False`` gives
                the plain encoding, which also accepts class-specific contexts (E, C, L, W).
            memory_bytes: Bound on activations kept for the backward pass; ``None`` takes a share
                of what is free. See `ActivationBound`.
            one_block: Whether classes of unequal length are padded to one block, where the prefix
                is shared; ``None`` decides by `padding_pays`.

        Returns:
            A differentiable function from (E, L, W) to unit-norm (E, C, D).
        """
        tokens = prompt_tokens(self.tokenizer, class_names, context_length, class_position)
        bound = ActivationBound.of(self.device, memory_bytes)
        if shared_prefix and class_position == "end" and isinstance(self._shareable, TextTower):
            return SharedPrefixEncoder(self._shareable, tokens, bound, one_block)
        return PlainPromptEncoder(self.model, tokens, bound)

    def prompted_vision(self) -> PromptedVision:
        """Make the function from cached tokens and visual prompts to image features.

        Raises:
            BackboneError: The image tower has no place for prompt tokens; the message says why.
        """
        return self.images.prompted()

    def tokenise(self, texts: Sequence[str]) -> Tensor:
        """Turn N texts into token ids, (N, T).

        Raises:
            BackboneError: A text is too long; none is cut off in silence.
        """
        return refuse_cut_off(self.tokenizer, texts, self.name)

    def text_ends(self, texts: Sequence[str]) -> Tensor:
        """Find the position of each of N texts' end token, (N,)."""
        return end_positions(self.tokenizer, texts)

    @property
    def text_tower(self) -> TextTower:
        """The parts of the text tower, for partial forward passes.

        Raises:
            BackboneError: It is not open_clip's own causal transformer; the message says why.
        """
        if isinstance(self._shareable, TextTower):
            return self._shareable
        raise BackboneError(
            f"{self.name} cannot be taken apart into text blocks: {self._shareable}; use a "
            "backbone with open_clip's own text transformer, such as the embedded one or ViT-B-16"
        )

    @property
    def token_tower(self) -> TokenTower:
        """The parts of the image tower.

        Raises:
            BackboneError: It is not open_clip's own ViT; the message says why.
        """
        return self.images.token_tower

    @cached_property
    def _embedding(self) -> Any:
        return token_embedding(self.model)
