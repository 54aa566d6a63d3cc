"""The elements of a prompt set: image tokens, or whole text contexts.

A set has no order, so an element must mean the same wherever it stands. Image tokens do, because
they carry no position embedding. Single text context vectors do not: their order matters to the
text tower; there an element is a whole context, and elements are combined by averaging logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.image_tokens import PromptedVision
from pfedmoap.models.clip.tokens import ClassPosition
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.encoder import training_encoder
from pfedmoap.prompts.initial import check_context, initial_context
from pfedmoap.prompts.tuning import check_templates, template_features
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

Modality = Literal["visual", "text"]
Initial = Literal["class_token", "random"]
PROMPTS = "prompts"
_STD = 0.5  # of what is random in tokens around the class token


class Elements(Protocol):
    """How a set of prompts enters the model."""

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of image features that are read."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one element."""
        ...

    @property
    def extras(self) -> Mapping[str, tuple[int, ...]]:
        """Further parameters beside the set, by name, with their shapes."""
        ...

    def initial(self, count: int) -> dict[str, Tensor]:
        """Initial set of all clients, (n, ...), and further parameters."""
        ...

    def represent(self, params: Arrays) -> Arrays:
        """Compute what a client's examples share, each (K, ...)."""
        ...

    def queries(self, params: Arrays, features: Arrays) -> Tensor:
        """Compute each image's query, which is compared with the keys, (K, B, Q)."""
        ...

    def keys(self, params: Arrays, shared: Arrays) -> Tensor:
        """Compute each element's key, which is compared with the queries, (K, n, Q)."""
        ...

    def logits(self, params: Arrays, shared: Arrays, features: Arrays, chosen: Tensor) -> Tensor:
        """Classify each image with its chosen elements, (K, B, k) indices, to (K, B, C)."""
        ...

    def folded(self, params: Arrays) -> tuple[str, dict[str, Tensor]]:
        """Encode what needs the text tower, of one client: the kind of `Folded`, and its arrays."""
        ...


@dataclass(frozen=True)
class VisualTokens:
    """Prompt tokens behind the class token of a ViT; the set's elements are their own keys.

    Attributes:
        setting: Backbone, classes, training options and seed.
        initial_tokens: Where tokens start: around the tower's own ``class_token``, which is part
            of the model and disturbs it least, or at ``random`` around zero as in VPT and PFPT:
            uniform within ``sqrt(6 / (3 p^2 + W))`` for patches of p pixels.
        head: ``text`` classifies with the frozen features of the class names; ``trained`` with two
            linear layers on the image feature, without anything between them, as in PFPT's code.
        projection: Whether the query goes through a trained matrix, as in PFPT, or as it is.
        hidden: Width of the trained head.
    """

    setting: Setting
    initial_tokens: Initial = "class_token"
    head: Literal["text", "trained"] = "text"
    projection: bool = False
    hidden: int = 512

    def __post_init__(self) -> None:
        self.setting.backbone.require_features(self.features)
        if self.head == "text":
            check_templates(self.setting)

    @property
    def features(self) -> tuple[str, ...]:
        """The tokens that enter the blocks, and the frozen class token as the query."""
        return ("tokens", "class_token")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """One token, (W,)."""
        return (self._vision.width,)

    @property
    def extras(self) -> Mapping[str, tuple[int, ...]]:
        """Parameters of the trained head and projection, where they are in use."""
        width, dim = self._vision.width, self.setting.backbone.embed_dim
        classes = len(self.setting.class_names)
        head = {
            "head_hidden": (self.hidden, dim),
            "head_hidden_bias": (self.hidden,),
            "head_output": (classes, self.hidden),
            "head_output_bias": (classes,),
        }
        projection = {"projection": (width, width)} if self.projection else {}
        return {**projection, **(head if self.head == "trained" else {})}

    def initial(self, count: int) -> dict[str, Tensor]:
        """Random tokens; the projection starts as the identity."""
        stream = generator(self.setting.seed, "initial prompt tokens")
        if self.initial_tokens == "class_token":
            noise = torch.randn(count, *self.shape, generator=stream)
            tokens = _STD * noise + self._vision.class_token.float().cpu()
        else:
            within = (6 / (3 * self._vision.patch_size**2 + self._vision.width)) ** 0.5
            tokens = within * (2 * torch.rand(count, *self.shape, generator=stream) - 1)
        start = {PROMPTS: tokens}
        for name, shape in self.extras.items():
            if name == "projection":
                start[name] = torch.eye(*shape)
            else:
                uniform = torch.rand(shape, generator=stream) * 2 - 1
                start[name] = uniform * (0.0 if len(shape) == 1 else shape[1] ** -0.5)
        return start

    def represent(self, params: Arrays) -> Arrays:
        """Return nothing: without an image, nothing is computed from the tokens.

        Class names are encoded here if they have not been: `logits` may run inside a transform of
        functions, where tokenising fails in torch 2.4, and what is kept must not be of one.
        """
        del params
        if self.head == "text":
            _ = self._text
        return {}

    def queries(self, params: Arrays, features: Arrays) -> Tensor:
        """The frozen class token, (K, B, W), projected where asked for."""
        query = features["class_token"]
        return query @ params["projection"].mT if self.projection else query

    def keys(self, params: Arrays, shared: Arrays) -> Tensor:
        """The tokens themselves, (K, n, W)."""
        del shared
        return params[PROMPTS]

    def logits(self, params: Arrays, shared: Arrays, features: Arrays, chosen: Tensor) -> Tensor:
        """Run the tower with the chosen tokens and classify."""
        del shared
        tokens = params[PROMPTS]
        rows = torch.arange(len(tokens), device=tokens.device)[:, None, None]
        image = self._vision(features["tokens"], tokens[rows, chosen])  # (K, B, D)
        if self.head == "text":
            return cosine_logits(image, self._text, self.setting.backbone.logit_scale)
        hidden = image @ params["head_hidden"].mT + params["head_hidden_bias"][:, None]
        return hidden @ params["head_output"].mT + params["head_output_bias"][:, None]

    def folded(self, params: Arrays) -> tuple[str, dict[str, Tensor]]:
        """The tokens, and the class names' features or the trained head."""
        text = {"text": self._text} if self.head == "text" else {}
        return "visual_set", {**{name: value[0] for name, value in params.items()}, **text}

    @cached_property
    def _vision(self) -> PromptedVision:
        return self.setting.backbone.prompted_vision()

    @cached_property
    def _text(self) -> Tensor:
        return template_features(self.setting)


@dataclass(frozen=True)
class TextContexts:
    """Whole text contexts (L, W); an image's logits are averaged over those it uses.

    A context's key is the mean over classes of its own class features: the only part of the joint
    space that all classes share, and the same for every backbone.

    Attributes:
        setting: Backbone, classes, training options and seed.
        length: Context vectors L of one element.
        words: Words to start all contexts from, apart from their random part; ``None`` for none.
        std: Standard deviation of the random part.
        position: Where the class name stands.
    """

    setting: Setting
    length: int = 4
    words: str | None = None
    std: float = 0.02
    position: ClassPosition = "end"

    def __post_init__(self) -> None:
        check_context(self.setting, self.features, self.length, self.words, self.position)

    @property
    def features(self) -> tuple[str, ...]:
        """One global feature an image."""
        return ("image",)

    @property
    def shape(self) -> tuple[int, ...]:
        """One context, (L, W)."""
        return (self.length, self.setting.backbone.text_width)

    @property
    def extras(self) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: there are only the contexts."""
        return {}

    def initial(self, count: int) -> dict[str, Tensor]:
        """Random contexts around the words."""
        stream = generator(self.setting.seed, "initial contexts")
        noise = self.std * torch.randn(count, *self.shape, generator=stream)
        return {PROMPTS: self._words(self.length) + noise}

    def represent(self, params: Arrays) -> Arrays:
        """Class features of every context, (K, n, C, D)."""
        contexts = params[PROMPTS]
        encoded = self._encoder(contexts.flatten(0, 1))
        return {"text": encoded.unflatten(0, contexts.shape[:2])}

    def queries(self, params: Arrays, features: Arrays) -> Tensor:
        """The image feature, (K, B, D)."""
        del params
        return features["image"]

    def keys(self, params: Arrays, shared: Arrays) -> Tensor:
        """Mean class feature of each context, (K, n, D)."""
        del params
        return shared["text"].mean(2)

    def logits(self, params: Arrays, shared: Arrays, features: Arrays, chosen: Tensor) -> Tensor:
        """Mean logits over the chosen contexts."""
        del params
        text = shared["text"]  # (K, n, C, D)
        flat = cosine_logits(
            features["image"], text.flatten(1, 2), self.setting.backbone.logit_scale
        )
        each = flat.unflatten(-1, text.shape[1:3])  # (K, B, n, C)
        index = chosen[..., None].expand(*chosen.shape, text.shape[2])
        found: Tensor = each.gather(2, index).mean(2)
        return found

    def folded(self, params: Arrays) -> tuple[str, dict[str, Tensor]]:
        """Class features of every context, (n, C, D)."""
        return "text_set", {"text": self.represent(params)["text"][0]}

    def _words(self, length: int) -> Tensor:
        if self.words is None:
            return torch.zeros(length, self.setting.backbone.text_width)
        return initial_context(self.setting.backbone, length, self.words, seed=0).cpu()

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return training_encoder(self.setting, self.length, self.position)
