"""The encoder that a setting's clients train through, with the training's options."""

from typing import Any, cast

from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.compiled import CompiledEncoder


def training_encoder(setting: Setting, context_length: int) -> PromptEncoder:
    """Make the function from contexts (E, L, W) to class features (E, C, D).

    Args:
        setting: Backbone, classes, and the training's ``memory_bytes`` and ``compile``.
        context_length: Context vectors L.
    """
    training = setting.training
    plain = setting.backbone.prompt_encoder(
        setting.class_names, context_length, memory_bytes=training.memory_bytes
    )
    if not training.compile:
        return plain
    return CompiledEncoder(cast(Any, plain))  # both encoders are modules
