"""From a backbone to the protected model that FedSP trains for."""

from dataclasses import dataclass

from pfedmoap.backbone.clip import FrozenCLIP
from pfedmoap.errors import ConfigError
from pfedmoap.language.model import FrozenLM
from pfedmoap.language.protected import ProtectedLM
from pfedmoap.method import Setting
from pfedmoap.protected.dual_encoder import ProtectedCLIP, Towers
from pfedmoap.protected.models import ProtectedModel
from pfedmoap.protected.towers import Shape


@dataclass(frozen=True)
class Protection:
    """What is protected, what stands in for it, and the prefix between the two.

    Attributes:
        protects: ``both`` towers of a CLIP, or the ``text`` tower alone; a language model is one.
        prefixed: Which towers have a prefix.
        prefix_length: Keys and values p in each layer.
        prefix_std: Standard deviation of the first prefix.
        shape: Form of the auxiliary's towers.
        blocks: Blocks that each of them stores.
        batch_size: Texts in a step of distillation.
    """

    protects: Towers
    prefixed: Towers
    prefix_length: int
    prefix_std: float
    shape: Shape
    blocks: int
    batch_size: int


def protect(setting: Setting[FrozenCLIP | FrozenLM], options: Protection) -> ProtectedModel:
    """Make the protected model of a task's backbone.

    Args:
        setting: The task.
        options: What is protected, and how.

    Returns:
        The model, for the server.

    Raises:
        BackboneError: The backbone cannot be taken apart; the message says why.
        ConfigError: The options do not fit it.
    """
    backbone = setting.backbone
    if isinstance(backbone, FrozenLM):
        if options.protects != "both" or options.prefixed != "text":
            raise ConfigError(
                "a language model has one tower, which is protected and has the prefix: leave out "
                "--method.protects and --method.prefixed"
            )
        return ProtectedLM(
            backbone=backbone,
            prefix_length=options.prefix_length,
            prefix_std=options.prefix_std,
            shape=options.shape,
            blocks=options.blocks,
            seed=setting.seed,
        )
    return ProtectedCLIP(
        backbone=backbone,
        class_names=setting.class_names,
        templates=setting.templates,
        protects=options.protects,
        prefixed=options.prefixed,
        prefix_length=options.prefix_length,
        prefix_std=options.prefix_std,
        shape=options.shape,
        blocks=options.blocks,
        sentences=options.batch_size,
        seed=setting.seed,
    )
