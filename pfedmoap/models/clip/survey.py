"""Find out what an open_clip architecture supports, by trying it with random weights.

A tower's structure decides whether its prefix can be shared, not its weights or depth: so a model
is built with its real widths and forms but few layers, a prompt is encoded in both ways, and values
and gradients are compared. ``docs/backbones.md`` is made of these findings.
"""

import copy
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.clip.tokens import Tokenizer

NAMES = ("cat", "golden retriever", "hourglass")
TEXT_LAYERS = 2
SMALL_VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "head_width": 32}
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Finding:
    """What was found of one architecture.

    Attributes:
        name: open_clip's name of it.
        prompts: ``shared prefix``, or ``plain: `` and the reason.
        feature_kinds: Kinds of image features that it gives.
        quick_gelu: Whether its towers have the quick GELU.
        tokenizer: ``CLIP``'s own, which needs no network, or the Hugging Face one that it needs.
        largest_difference: Between shared-prefix and plain class features; ``None`` where there is
            no shared prefix to compare.
    """

    name: str
    prompts: str
    feature_kinds: tuple[str, ...]
    quick_gelu: bool
    tokenizer: str
    largest_difference: float | None


def survey(name: str, *, real_vision: bool = True) -> Finding:
    """Build an architecture with random weights and try it.

    Args:
        name: open_clip's name of it.
        real_vision: Build its own image tower; ``False`` puts a small ViT in its place.

    Returns:
        What was found.

    Raises:
        BackboneError: There is no such architecture, its text tower comes from the library
            ``transformers`` and so from the network, or it cannot learn prompts.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        raise BackboneError(f"open_clip knows no architecture {name!r}")
    if "hf_model_name" in config["text_cfg"]:
        raise BackboneError(
            f"{name}: its text tower {config['text_cfg']['hf_model_name']} is fetched by the "
            "library transformers, even with random weights"
        )
    clip, size = _build(name, copy.deepcopy(config), real_vision)
    contexts = torch.randn(2, 4, clip.text_width, generator=torch.Generator().manual_seed(0))
    plain, plain_gradient = _encode(clip, contexts, shared=False)
    difference = None
    if clip.sharing == "shared prefix":
        shared, gradient = _encode(clip, contexts, shared=True)
        difference = float((shared - plain).abs().max())
        torch.testing.assert_close(gradient, plain_gradient, rtol=1e-3, atol=1e-5)
    if not bool(torch.isfinite(plain).all() and plain_gradient.abs().sum() > 0):
        raise BackboneError(f"{name}: no gradient reaches the prompt")
    features = clip.features(torch.zeros(1, 3, size, size), clip.feature_kinds)
    return Finding(
        name=name,
        prompts=clip.sharing,
        feature_kinds=tuple(features),
        quick_gelu=bool(config.get("quick_gelu", False)),
        tokenizer=config["text_cfg"].get("hf_tokenizer_name", "CLIP"),
        largest_difference=difference,
    )


def weight_tags(name: str) -> tuple[str, ...]:
    """Tags of the weights that open_clip has for an architecture."""
    return tuple(open_clip.list_pretrained_tags_by_model(name))


def stand_in_tokenizer(context_length: int) -> Tokenizer:
    """A tokeniser of the same form as SigLIP's: no start token, one end token, padding like it."""

    def tokenize(texts: list[str]) -> Tensor:
        rows = []
        for text in texts:
            words = [2 + sum(word.encode()) % 500 for word in text.replace(".", " .").split()]
            rows.append((words + [1] * context_length)[:context_length])
        return torch.tensor(rows)

    return tokenize


def _encode(clip: FrozenCLIP, contexts: Tensor, *, shared: bool) -> tuple[Tensor, Tensor]:
    """Class features, and the gradient of one of their sums with respect to the contexts."""
    given = contexts.clone().requires_grad_()
    features = clip.prompt_encoder(NAMES, 4, shared_prefix=shared)(given)
    weights = torch.linspace(-1, 1, features.shape[-1])
    (gradient,) = torch.autograd.grad((features * weights).sum(), given)
    return features.detach(), gradient


def _build(name: str, config: Any, real_vision: bool) -> tuple[FrozenCLIP, int]:
    """Build a model from its configuration, open_clip's nested dictionary, with few layers."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    text["layers"] = TEXT_LAYERS
    if "multimodal_cfg" in config:
        config["multimodal_cfg"]["layers"] = 1
    if not real_vision:
        kept = ("attentional_pool", "attn_pooler_heads", "output_tokens")
        vision = {key: vision[key] for key in kept if key in vision} | SMALL_VISION
    elif isinstance(vision.get("layers"), list):
        vision["layers"] = [1, 1, 1, 1]
    elif "layers" in vision:
        vision["layers"] = 1
    config["vision_cfg"] = vision
    if "hf_tokenizer_name" in text:
        text["vocab_size"] = 512
        tokenizer = stand_in_tokenizer(text["context_length"])
    else:
        tokenizer = open_clip.SimpleTokenizer(context_length=text["context_length"])
    custom = config.pop("custom_text", False)
    kind: type[nn.Module] = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in config:
        kind = open_clip.CoCa
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(**config)
    size = vision["image_size"]
    return FrozenCLIP(model, tokenizer, Preprocessing(size, MEAN, STD), name), size
