"""Loading a backbone by name: embedded, open_clip's, ``hf-hub:``, ``local-dir:`` or ``lm:``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.architecture import Architecture
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.half_precision import complete
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.models.clip.tokens import Tokenizer
from pfedmoap.models.fetching import (
    advice_for,
    check_at_hand,
    check_path,
    fetch_advice,
    reason_without_advice,
)
from pfedmoap.models.language.loading import SCHEME, load_lm
from pfedmoap.models.language.model import FrozenLM


@dataclass(frozen=True)
class BackboneOptions:
    """Which frozen vision-language model to use, or which language model.

    Attributes:
        model: ``embedded``, an open_clip architecture such as ``ViT-B-16``, ``hf-hub:org/repo`` or
            ``local-dir:/path``; for ``--method fedsp`` on questions also ``lm:`` and the name or
            folder of a causal language model, such as ``lm:gpt2``.
        pretrained: Weights for an architecture name: an open_clip tag such as ``openai`` (which
            also decides between GELU and quick GELU), a file, or ``random`` (for benchmarks and
            tests; seed 0).
        precision: Number format of the frozen towers; prompts stay float32.
        device: ``auto`` takes CUDA where present.
    """

    model: str = "embedded"
    pretrained: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = "auto"

    def load_any(self) -> FrozenCLIP | FrozenLM:
        """Load a model of either modality.

        Raises:
            BackboneError: As in `load`.
        """
        if not self.model.startswith(SCHEME):
            return self.load()
        if self.pretrained is not None:
            raise BackboneError("a language model has its own weights: drop `pretrained`")
        name = self.model.removeprefix(SCHEME)
        return load_lm(name, self.precision, resolve_device(self.device))

    def load(self) -> FrozenCLIP:
        """Load a CLIP.

        Returns:
            The frozen model on its device.

        Raises:
            BackboneError: The name or tag is unknown, or the weights are not on this machine and
                cannot be fetched; the message says which command fetches them.
        """
        import open_clip  # takes seconds, with torchvision, timm and transformers

        if self.model.startswith(SCHEME):
            raise BackboneError(f"{self.model} is a language model, and images need a CLIP here")
        device = resolve_device(self.device)
        if self.model == "embedded":
            if self.pretrained is not None:
                raise BackboneError("the embedded backbone has its own weights: drop `pretrained`")
            if self.precision != "fp32":
                raise BackboneError(
                    f"the embedded backbone runs in fp32 alone, not in {self.precision}: it is too "
                    "small to gain by another format; drop `precision`"
                )
            return FrozenCLIP.embedded(device)
        named = ":" not in self.model
        if named and self.model not in open_clip.list_models():
            raise BackboneError(
                f"open_clip knows no architecture {self.model!r}; see open_clip.list_models(), or "
                "use `embedded`, `hf-hub:org/repo` or `local-dir:/path`"
            )
        if named and self.pretrained is None:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self.model)) or "none"
            raise BackboneError(
                f"backbone {self.model} needs `pretrained`: one of its tags ({tags}), a file, or "
                "`random`"
            )
        return self._load_open_clip(device)

    def architecture(self) -> Architecture:
        """Say what the image tower is built of.

        Raises:
            BackboneError: It has options that are not known here.
        """
        import open_clip

        if self.model == "embedded":
            from pfedmoap.models.clip.embedded import embedded_config

            config = embedded_config()
        else:
            config = open_clip.get_model_config(self.model) or {}
        random = ":" in self.model or self.pretrained in (None, "random")
        quick = bool(config.get("quick_gelu", False)) or (not random and self._wants_quick_gelu())
        return Architecture(config["embed_dim"], quick, config["vision_cfg"])

    def _load_open_clip(self, device: torch.device) -> FrozenCLIP:
        import open_clip

        random = self.pretrained == "random"
        quick_gelu = ":" not in self.model and not random and self._wants_quick_gelu()
        if ":" not in self.model and not random:
            check_at_hand(self.model, self.pretrained)
        if not random:
            check_path(self.model, self.pretrained)
        try:
            with torch.random.fork_rng(enabled=random):
                if random:
                    torch.manual_seed(0)
                model = open_clip.create_model(
                    self.model,
                    pretrained=None if random else self.pretrained,
                    precision=self.precision,
                    device=device,
                    require_pretrained=not random,
                    force_quick_gelu=quick_gelu,
                )
        except Exception as error:
            raise BackboneError(
                f"could not load {self.model} with weights {self.pretrained!r}: "
                f"{reason_without_advice(error)}\n{advice_for(self.model, self.pretrained)}"
            ) from error
        complete(model, self.precision)
        return FrozenCLIP(
            model,
            self._tokenizer(),
            preprocessing_of(open_clip.get_model_preprocess_cfg(model)),
            f"{self.model}/{self.pretrained}",
        )

    def _wants_quick_gelu(self) -> bool:
        """Whether these weights were trained with the fast GELU (OpenAI's and some others were).

        open_clip has two architectures for them, and warns if the wrong one is named; a model with
        the wrong activation runs, and is worse. Here the weights decide.
        """
        import open_clip

        trained_with = open_clip.get_pretrained_cfg(self.model, self.pretrained or "")
        if not trained_with:
            return False  # a weights file: the architecture's name decides
        config = open_clip.get_model_config(self.model) or {}
        quick = bool(trained_with.get("quick_gelu", False))
        if config.get("quick_gelu", False) and not quick:
            plain = self.model.removesuffix("-quickgelu")
            raise BackboneError(
                f"weights {self.pretrained!r} were trained without the quick GELU of {self.model}: "
                f"use the model {plain}"
            )
        return quick

    def _tokenizer(self) -> Tokenizer:
        import open_clip

        try:
            tokenizer: Tokenizer = open_clip.get_tokenizer(self.model)
        except Exception as error:  # transformers raises what its back ends raise
            raise BackboneError(
                f"the tokeniser of {self.model} cannot be loaded ({type(error).__name__}: "
                f"{reason_without_advice(error)})."
                "\nModels with a Hugging Face tokeniser (SigLIP, multilingual ones) "
                "need `pip install transformers sentencepiece`.\n"
                f"{fetch_advice(self.model, self.pretrained)}"
            ) from error
        return tokenizer


def resolve_device(name: str) -> torch.device:
    """Turn ``auto`` into CUDA where present, else CPU; other names are taken as they are."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"there is no CUDA device for {name!r} here; use auto or cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackboneError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise BackboneError(
            f"there is no {name!r} here: the last of {count} devices is cuda:{count - 1}"
        )
    return device


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that open_clip's configuration of a model describes.

    Args:
        config: ``size``, ``mean`` and ``std``, and perhaps ``interpolation``, ``resize_mode`` and
            ``fill_color``, as open_clip names them.

    Raises:
        BackboneError: The images are not square.
    """
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise BackboneError(f"the backbone wants {height}x{width} images; only square ones work")
    return Preprocessing(
        size=int(height),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        resize=config.get("resize_mode") or "shortest",
        fill=int(config.get("fill_color") or 0),
    )
