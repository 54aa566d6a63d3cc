"""Options of the server that a method would ignore, and their refusal."""

from pfedmoap.config.server import PoolOptions
from pfedmoap.contract.capabilities import AveragesByRule, ServesExperts
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import ConfigError


def refuse_unread_options(method: AnyMethod) -> None:
    """Refuse options of the server that change nothing in a method.

    Args:
        method: The method.

    Raises:
        ConfigError: An option is set to another value than its default, and the method's server
            does nothing with it; the message says why.
    """
    if method.setting.pool != PoolOptions() and not isinstance(method, ServesExperts):
        raise ConfigError(
            "options of `pool` would change nothing: this method has no pool of experts that it "
            "serves. Drop them, or choose pfedmoap"
        )
    rule = method.setting.server.aggregation
    if rule != "mean" and (why := gap_in_aggregation(method)) is not None:
        raise ConfigError(
            f"server.aggregation {rule} would change nothing: {why}. Drop the option, or choose a "
            "method whose server averages, e.g. promptfl"
        )


def gap_in_aggregation(method: AnyMethod) -> str | None:
    """Say why a method's server does not average by the server's rule; ``None`` if it does."""
    if not isinstance(method, AveragesByRule):
        return "this method does not say that its server averages by that rule (aggregation_gap)"
    return method.aggregation_gap()


def gap_where_replaced(method: object, base: type) -> str | None:
    """Implement `AveragesByRule` for a base whose ``aggregate`` follows the rule.

    Args:
        method: The method.
        base: The base. A class that replaces its ``aggregate`` has to answer for itself.
    """
    if vars(base)["aggregate"] is getattr(type(method), "aggregate"):  # noqa: B009
        return None
    return (
        f"it replaces `aggregate` of {base.__name__}, and does not say in an aggregation_gap of "
        "its own whether its server averages by that rule"
    )
