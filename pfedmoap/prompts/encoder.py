"""The encoder that a setting's clients train through, with the training's options."""

from typing import Any, cast

from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.clip.compiled import CompiledEncoder
from pfedmoap.models.clip.tokens import ClassPosition


def training_encoder(
    setting: Setting,
    context_length: int,
    class_position: ClassPosition = "end",
    shared_prefix: bool = True,
) -> PromptEncoder:
    """Make the function from contexts (E, L, W) to class features (E, C, D).

    Args:
        setting: Backbone, classes, and the training's ``memory_bytes`` and ``compile``.
        context_length: Context vectors L.
        class_position: Where the class name stands.
        shared_prefix: Share the context's work among classes where that can be; see
            `FrozenCLIP.prompt_encoder`.
    """
    training = setting.training
    plain = setting.backbone.prompt_encoder(
        setting.class_names,
        context_length,
        class_position=class_position,
        shared_prefix=shared_prefix,
        memory_bytes=training.memory_bytes,
    )
    if not training.compile:
        return plain
    return CompiledEncoder(cast(Any, plain))  # both encoders are modules
