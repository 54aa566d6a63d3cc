"""From a backbone to the protected model that FedSP trains for."""

from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.protected.clip import ProtectedCLIP
from pfedmoap.models.protected.interface import ProtectedModel, Protection
from pfedmoap.models.protected.language_model import ProtectedLM


def protect(setting: Setting[FrozenCLIP | FrozenLM], options: Protection) -> ProtectedModel:
    """Make the protected model of a task's backbone.

    Args:
        setting: Backbone, classes, training options and seed.
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
    for each in setting.templates:  # refuses what is too long before an image is encoded
        backbone.tokenise([each.replace("{}", name) for name in setting.class_names])
    return ProtectedCLIP(backbone, setting.class_names, setting.templates, options, setting.seed)
