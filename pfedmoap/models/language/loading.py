"""Loading a language model by name or from a folder, through Hugging Face transformers."""

import os
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch

from pfedmoap.errors import BackboneError
from pfedmoap.models.fetching import hub_reachable, reason_without_advice
from pfedmoap.models.language.model import FrozenLM

SCHEME = "lm:"
"""What names of language models begin with, in configurations."""

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_lm(name: str, precision: Precision, device: torch.device) -> FrozenLM:
    """Load a causal language model and its tokeniser.

    Args:
        name: A name on the Hugging Face hub, such as ``gpt2`` or ``facebook/opt-1.3b``, or a folder
            that `save_pretrained` of model and tokeniser has written.
        precision: Number format of the weights.
        device: Where it runs.

    Returns:
        The frozen model.

    Raises:
        BackboneError: transformers is not installed, or the model is neither here nor reachable;
            the message says what to do.
    """
    if not name:
        raise BackboneError(f"{SCHEME} needs a name or a folder, e.g. {SCHEME}gpt2")
    transformers = _transformers()
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise BackboneError(f"there is no folder {name} to load a language model from")
    source = str(folder) if local else name
    # Where the hub's name cannot be resolved, the cache is all there is: asking takes a minute.
    here = local or not hub_reachable()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=here)
        model = transformers.AutoModelForCausalLM.from_pretrained(source, local_files_only=here)
    except Exception as error:  # transformers raises what its back ends raise
        raise BackboneError(
            f"could not load the language model {name!r}: {type(error).__name__}: "
            f"{reason_without_advice(error)}\n"
            f"{_advice(name, local)}"
        ) from error
    return FrozenLM(model.to(device, DTYPES[precision]), tokenizer, f"{SCHEME}{name}")


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise BackboneError(
            f"language models need Hugging Face transformers ({error}): "
            '`pip install "pfedmoap[lm]"`'
        ) from error
    found: ModuleType = transformers
    return found


def _advice(name: str, local: bool) -> str:
    if local:
        return (
            "A folder must hold config.json, the weights and the tokeniser's files, as "
            "`model.save_pretrained(folder)` and `tokenizer.save_pretrained(folder)` write them."
        )
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        "If this machine has no network, fetch the model on one that has, with\n"
        '  python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"[part.from_pretrained('{name}').save_pretrained('model') for part in (M, T)]\"\n"
        "and use the folder it makes here: --backbone.model lm:/path/to/model; or copy its cache "
        f"folder ({cache})."
    )
