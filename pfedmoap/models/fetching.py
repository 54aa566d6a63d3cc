"""Check whether a model's weights are available, before open_clip waits for a network timeout."""

import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from huggingface_hub import constants, try_to_load_from_cache

from pfedmoap.errors import BackboneError

logger = logging.getLogger(__name__)

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def fetch_advice(model: str, pretrained: str | None) -> str:
    """Explain how to get weights and tokeniser to a machine without a network."""
    return (
        "If this machine has no network, fetch the weights on one that has, with\n"
        f"  python -c \"import open_clip; open_clip.create_model('{model}', "
        f"pretrained={pretrained!r}); open_clip.get_tokenizer('{model}')\"\n"
        f"and copy its cache folder ({constants.HF_HOME}), or use a weights file as `pretrained`, "
        "or a folder as `local-dir:/path`."
    )


def reason_without_advice(error: Exception) -> str:
    """Say why weights could not be read, without a library's advice.

    Of a damaged file torch says that ``weights_only=False`` may read it, which runs whatever code
    the file holds: that is never passed on.
    """
    text = " ".join(str(error).split())
    if any(word in text.lower() for word in ("weights_only", "pickle", "unpickling")):
        return (
            "it is damaged, or holds more than plain tensors; nothing in it was run, and nothing "
            "should be. Get the file anew, or convert it to safetensors where you trust it"
        )
    text = text or type(error).__name__
    return text if len(text) <= 500 else f"{text[:500]} ..."


def advice_for(model: str, pretrained: str | None) -> str:
    """Say what to do where loading failed: to fetch weights only where they come from a network."""
    if model.startswith("local-dir:"):
        return "The folder must hold open_clip_config.json and the weights of that architecture."
    if pretrained and not _known_weights(model, pretrained):
        return f"The file must hold the whole weights of {model}."
    return fetch_advice(model, pretrained)


def _known_weights(model: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of an architecture's weights; empty where it has none of that name."""
    import open_clip

    return dict(open_clip.get_pretrained_cfg(model, tag) or {})


def check_path(model: str, pretrained: str | None) -> None:
    """Refuse a path to weights that leads nowhere.

    Args:
        model: Architecture, or ``local-dir:`` and a folder.
        pretrained: A tag of the architecture, or a file.

    Raises:
        BackboneError: There is no such file or folder.
    """
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        if not folder.is_dir():
            raise BackboneError(f"there is no folder {folder} to load a model from")
        return
    if ":" in model or not pretrained or _known_weights(model, pretrained):
        return
    if not Path(pretrained).is_file():
        import open_clip

        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise BackboneError(
            f"backbone.pretrained {pretrained!r} is neither a file nor one of the tags of {model} "
            f"({tags})"
        )


def check_at_hand(model: str, pretrained: str | None) -> None:
    """Raise an error at once if weights are neither cached nor reachable.

    Only tags whose weights lie on the Hugging Face hub are looked at, and nothing is sent: the
    hub's name is resolved. Behind a proxy, which may resolve it elsewhere, nothing is checked.

    Raises:
        BackboneError: The hub's name cannot be resolved and its cache lacks the weights.
    """
    repository = _known_weights(model, pretrained or "").get("hf_hub", "")
    if not repository or constants.HF_HUB_OFFLINE or hub_reachable():
        return
    name, _, file = repository.rpartition("/")
    if any(
        isinstance(try_to_load_from_cache(name, f), str) for f in (file or f for f in WEIGHT_FILES)
    ):
        logger.warning("no network: set HF_HUB_OFFLINE=1 to load weights from the cache at once")
        return
    raise BackboneError(
        f"could not load {model} with weights {pretrained!r}: they are not in the cache, and "
        f"{constants.ENDPOINT} cannot be reached from here\n{fetch_advice(model, pretrained)}"
    )


def hub_reachable() -> bool:
    """Whether the Hugging Face hub's name can be resolved, or a proxy stands before it."""
    proxies = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if any(os.environ.get(name) for name in proxies):
        return True
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
