"""From a backbone to the protected model that FedSP trains for."""

from pfedmoap.backbone.clip import FrozenCLIP
from pfedmoap.errors import ConfigError
from pfedmoap.language.model import FrozenLM
from pfedmoap.language.protected import ProtectedLM
from pfedmoap.method import Setting
from pfedmoap.protected.dual_encoder import ProtectedCLIP
from pfedmoap.protected.models import ProtectedModel, Protection


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
        return ProtectedLM(backbone, options, setting.seed)
    return ProtectedCLIP(backbone, setting.class_names, setting.templates, options, setting.seed)
