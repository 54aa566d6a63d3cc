"""A method made of a configuration and of what the data say of the classes."""

from typing import Any

from pfedmoap.config.schema import Config
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Setting


def make_method(
    config: Config, backbone: Any, class_names: tuple[str, ...], templates: tuple[str, ...]
) -> AnyMethod:
    """Make the method that a configuration names.

    Args:
        config: The resolved configuration.
        backbone: The frozen model, of either kind.
        class_names: Names of the classes, in the order of their numbers.
        templates: Hand-written prompts, each with one ``{}``.

    Returns:
        The method. Its setting has no data of the server's.

    Raises:
        ConfigError: The method's options do not suit the backbone.
    """
    setting = Setting(
        backbone=backbone,
        class_names=class_names,
        training=config.build("training"),
        templates=templates,
        seed=config.build("seeds").training,
        server=config.build("server"),
        pool=config.build("pool"),
        rounds=config.build("rounds").rounds,
    )
    method: AnyMethod = config.build("method", setting=setting)
    return method
