"""What the server does about uploads that are hostile or broken: bounds, the average, the pool."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pfedmoap.config.bounds import Bounds, check_options
from pfedmoap.errors import ConfigError

Rule = Literal["mean", "clipped_mean", "median", "trimmed_mean", "geometric_median", "multi_krum"]
_DECLARED: tuple[Rule, ...] = ("trimmed_mean", "multi_krum")  # rules that read `byzantine`
_USUAL_SHARE = 0.2


@dataclass(frozen=True)
class ServerOptions:
    """How the server bounds and averages uploads.

    Attributes:
        aggregation: How uploads are averaged; see `pfedmoap.server.aggregation`. All but ``mean``
            hold against some hostile clients.
        byzantine: Share of the clients of a round that may be hostile, for ``trimmed_mean`` and
            ``multi_krum``; none for 0.2.
    """

    aggregation: Rule = "mean"
    byzantine: Annotated[float, Bounds(ge=0, lt=0.5)] | None = None

    def __post_init__(self) -> None:
        check_options(self, "server")
        if self.byzantine is not None and self.aggregation not in _DECLARED:
            raise ConfigError(
                f"server.byzantine is read by {' and '.join(_DECLARED)} alone, and "
                f"server.aggregation is {self.aggregation}: drop it, or choose one of them"
            )

    @property
    def hostile_share(self) -> float:
        """The declared share of hostile clients."""
        return _USUAL_SHARE if self.byzantine is None else self.byzantine
