"""FedSP's protected CLIP, and the auxiliary dual encoder that clients hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.logits import cosine_logits, cross_entropy
from pfedmoap.models.protected.interface import Protection
from pfedmoap.models.protected.naming import part_of
from pfedmoap.models.protected.towers import (
    ImageForm,
    Reduction,
    TextForm,
    image_form,
    image_weights,
    reduction,
    text_form,
    text_weights,
    whole,
)
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

IMAGES_AT_ONCE = 256


@dataclass(frozen=True)
class AuxiliaryCLIP:
    """The form of the clients' dual encoder: token ids and sizes, no weight.

    Attributes:
        text: Its text tower, on the prompts of the classes.
        image: Its image tower; ``None`` where clients have the image features themselves.
        image_prefixed: Whether a prefix stands in the image tower.
        scale: Logit scale.
    """

    text: TextForm
    image: ImageForm | None
    image_prefixed: bool
    scale: float

    @property
    def features(self) -> tuple[str, ...]:
        """The images themselves, or their features where the image tower is public."""
        return ("image",) if self.image is None else ("pixels",)

    @property
    def step_gap(self) -> str | None:
        """Every image has its own gradient."""
        return None

    @property
    def class_bond(self) -> str | None:
        """Its token embedding has the words of its classes alone."""
        return (
            "clients' auxiliary models know the words of the classes that they were distilled for, "
            "and no others; only the server's full model could name new ones"
        )

    @torch.no_grad()
    def precompute(self, weights: Arrays, features: Arrays) -> Arrays:
        """Encode the images, (K, n, V, D), unless a prefix stands in the image tower."""
        if self.image is None or self.image_prefixed:
            return features
        pixels = features["pixels"]
        found = self._encode(self.image, weights, pixels.flatten(1, 2), None)
        return {"image": found.unflatten(1, pixels.shape[1:3])}

    def represent(self, weights: Arrays, prefix: Arrays) -> Arrays:
        """Encode the classes, (K, C, D)."""
        return {"text": self.text.encode(part_of("text", weights), prefix["text"])}

    def logits(self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Compare images and classes, (K, B, C)."""
        if self.image is None or "image" in features:
            return cosine_logits(features["image"], shared["text"], self.scale)
        image = self._encode(self.image, weights, features["pixels"], prefix.get("image"))
        return cosine_logits(image, shared["text"], self.scale)

    def losses(
        self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor
    ) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        return cross_entropy(self.logits(weights, prefix, shared, features), labels)

    def _encode(
        self, form: ImageForm, weights: Arrays, pixels: Tensor, prefix: Tensor | None
    ) -> Tensor:
        """Encode (K, N, 3, H, W) to (K, N, D), with bounded memory where no gradients are kept."""
        own = part_of("image", weights)
        first = own["class_embedding"]
        clients = max(len(pixels), len(first) if first.dim() == 2 else 1)
        return in_parts(
            lambda part: form.encode(own, form.embed(own, part), prefix), pixels, clients
        )


@dataclass(frozen=True)
class ProtectedCLIP:
    """A whole CLIP on the server.

    Attributes:
        backbone: The model.
        class_names: C names in label order.
        templates: Public prompts with ``{}``; the first one is the prefixed one, all of them are
            what the text tower is distilled on.
        options: What is protected, and how.
        seed: For what distillation samples.
    """

    backbone: FrozenCLIP
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    options: Protection
    seed: int

    @property
    def features(self) -> tuple[str, ...]:
        """Cached image features, and where they are prompted the tokens that enter the blocks."""
        return ("image", "tokens") if self.options.prefixed == "both" else ("image",)

    @cached_property
    def auxiliary(self) -> AuxiliaryCLIP:
        """The form of the clients' dual encoder."""
        tower, cut = self.backbone.text_tower, self._text_cut
        inner = range(len(cut.layers))
        text = text_form(tower, cut, self.rows[0], self.ends[0], inner)
        image = None
        if self.options.protects == "both":
            cut = self._image_cut
            image = image_form(self.backbone.token_tower, cut, range(len(cut.layers)))
        return AuxiliaryCLIP(
            text, image, self.options.prefixed == "both", self.backbone.logit_scale
        )

    @cached_property
    def prefix_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tower's prefix, (layers, 2, p, W)."""
        sizes = {"text": (len(self._text_cut.prefixed), self.backbone.text_width)}
        if self.options.prefixed == "both":
            width = self.backbone.prompted_vision().width
            sizes["image"] = (len(self._image_cut.prefixed), width)
        return {
            name: (layers, 2, self.options.prefix_length, width)
            for name, (layers, width) in sizes.items()
        }

    def first_weights(self) -> Arrays:
        """Cut the auxiliary's float32 weights out of the model, named ``text.*`` and ``image.*``.

        Of the token embedding it takes the rows that the classes' prompts need and no more.
        """
        length = self.rows.shape[-1]
        found = text_weights(
            self.backbone.text_tower, self._text_cut.kept, self._vocabulary, length
        )
        weights = {f"text.{name}": value for name, value in found.items()}
        if self.options.protects == "both":
            found = image_weights(self.backbone.token_tower, self._image_cut.kept)
            weights |= {f"image.{name}": value for name, value in found.items()}
        return {name: value.float().clone() for name, value in weights.items()}

    def is_hidden(self, name: str) -> bool:
        """Return true: all weights are hidden."""
        del name
        return True

    def distillation_loss(self, weights: Arrays, features: Arrays, step: int) -> Tensor:
        """Squared distance of unit-norm features at the end token and at the class token."""
        rows = torch.randperm(
            len(self._targets), generator=generator(self.seed, "sentences", step)
        )[: self.options.batch_size]
        form = self.auxiliary.text
        ids, ends = self.rows.flatten(0, 1)[rows], self.ends.flatten()[rows]
        some = TextForm(ids, ends, form.block, form.layers, form.prefixed)
        found = some.encode(part_of("text", weights))[0]
        loss = (found - self._targets[rows.to(found.device)]).pow(2).sum(-1).mean()
        if self.auxiliary.image is None:
            return loss
        image, own = self.auxiliary.image, part_of("image", weights)
        seen = image.encode(own, image.embed(own, features["pixels"][None]))[0]
        return loss + (seen - features["image"]).pow(2).sum(-1).mean()

    def represent(self, prefix: Arrays) -> Arrays:
        """Encode the classes with the whole text tower, (K, C, D)."""
        return {"text": self._text.encode(self._text_weights, prefix["text"])}

    def logits(self, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Compare images and classes with the whole model, (K, B, C)."""
        image = features["image"]
        if self.options.prefixed == "both":
            form, own, before = self._image, self._image_weights, prefix["image"]
            image = in_parts(
                lambda part: form.encode(own, part, before), features["tokens"], len(before)
            )
        return cosine_logits(image, shared["text"], self.backbone.logit_scale)

    def losses(self, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        return cross_entropy(self.logits(prefix, shared, features), labels)

    @cached_property
    def _text_cut(self) -> Reduction:
        return reduction(
            len(self.backbone.text_tower.blocks), self.options.shape, self.options.blocks
        )

    @cached_property
    def _image_cut(self) -> Reduction:
        if "tokens" not in self.backbone.feature_kinds:
            raise ConfigError(
                f"the image tower of {self.backbone.name} cannot be taken apart into blocks, so "
                "that no auxiliary can be cut out of it: use --method.protects text, or a backbone "
                "with open_clip's own ViT, such as the embedded one or ViT-B-16"
            )
        return reduction(
            len(self.backbone.token_tower.blocks), self.options.shape, self.options.blocks
        )

    @cached_property
    def _text(self) -> TextForm:
        tower = self.backbone.text_tower
        ids, ends = self._tokens[0], self.ends[0]
        return text_form(tower, whole(len(tower.blocks)), ids, ends, self._text_cut.prefixed)

    @cached_property
    def _text_weights(self) -> Arrays:
        tower = self.backbone.text_tower
        return text_weights(tower, range(len(tower.blocks)), None, self._tokens.shape[-1])

    @cached_property
    def _image(self) -> ImageForm:
        tower = self.backbone.token_tower
        return image_form(tower, whole(len(tower.blocks)), self._image_cut.prefixed)

    @cached_property
    def _image_weights(self) -> Arrays:
        tower = self.backbone.token_tower
        return image_weights(tower, range(len(tower.blocks)))

    @cached_property
    def _sentences(self) -> list[list[str]]:
        return [[t.replace("{}", name) for name in self.class_names] for t in self.templates]

    @cached_property
    def _tokens(self) -> Tensor:
        """Token ids of every template and class, cut behind the longest, (P, C, S)."""
        ids = torch.stack([self.backbone.tokenise(texts) for texts in self._sentences])
        return ids[..., : int(self.ends.max()) + 1]

    @cached_property
    def ends(self) -> Tensor:
        """Position of each text's end token, (P, C)."""
        return torch.stack([self.backbone.text_ends(texts) for texts in self._sentences])

    @cached_property
    def _vocabulary(self) -> Tensor:
        used: Tensor = self._tokens.unique()
        return used

    @cached_property
    def rows(self) -> Tensor:
        """The tokens as rows of the auxiliary's embedding, (P, C, S)."""
        return torch.searchsorted(self._vocabulary, self._tokens.contiguous())

    @cached_property
    def _targets(self) -> Tensor:
        """The model's own features of every sentence, (P C, D)."""
        return torch.cat([self.backbone.text_features(texts) for texts in self._sentences])


def in_parts(encode: Callable[[Tensor], Tensor], images: Tensor, clients: int) -> Tensor:
    """Encode some images at a time where no gradients are kept, and all at once where they are.

    Args:
        encode: From images (K or 1, N, ...) to features (K, N, D).
        images: All of them.
        clients: K.

    Returns:
        Features, (K, N, D).
    """
    if torch.is_grad_enabled():
        return encode(images)
    parts = images.split(max(1, IMAGES_AT_ONCE // clients), dim=1)
    return torch.cat([encode(part) for part in parts], dim=1)
