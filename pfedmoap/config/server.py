"""What the server does about uploads that are hostile or broken: bounds, the average, the pool."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pfedmoap.config.bounds import Bounds, Count, NotNegative, Positive, Share, check_options
from pfedmoap.errors import ConfigError

Rule = Literal["mean", "clipped_mean", "median", "trimmed_mean", "geometric_median", "multi_krum"]
_DECLARED: tuple[Rule, ...] = ("trimmed_mean", "multi_krum")  # rules that read `byzantine`
_USUAL_SHARE = 0.2


@dataclass(frozen=True)
class ServerOptions:
    """How the server bounds and averages uploads.

    Attributes:
        max_change: Longest change of a client's upload from what it started from, in multiples of
            the median of the round (more where changes differ much: see `robust_limit`); longer
            ones are shortened to it. None for no bound. A round of one or two clients has none.
        max_examples: Most examples that a client weighs as in averages; none for a robust limit,
            3 times the round's median or more (see `robust_limit`).
        aggregation: How uploads are averaged; see `pfedmoap.server.aggregation`. All but ``mean``
            hold against some hostile clients.
        byzantine: Share of the clients of a round that may be hostile, for ``trimmed_mean`` and
            ``multi_krum``; none for 0.2.
    """

    max_change: Positive | None = 5.0
    max_examples: Count | None = None
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


@dataclass(frozen=True)
class PoolOptions:
    """Whose prompts a pool of experts serves to others, and how it is searched.

    Attributes:
        copies: Prompts that are so near to each other count as one, of which one is served: in
            units of the median distance from the coordinate median. 0 finds equal prompts alone,
            none nothing.
        screen: Prompts are not served if they are further from the coordinate median than so many
            times the median (more where distances differ much: see `robust_limit`); none serves
            them.
        max_served: Most clients that one expert is served to in a round; none for no limit.
        exact_below: From so many entries on, neighbours are searched approximately, unless that
            finds too few of them; see ``recall``.
        recall: Share of the true neighbours that the approximate search has to find among some
            of the pool's own prompts, or it looks at more and at last gives way to the exact one.
        precision: How prompts are kept, compared and served: ``exact``, as they were uploaded, or
            ``float16``, in half of the room, each number off by 2^-11 of its size at most.
        rows: Where they are: in ``memory``, or ``mapped``, in a temporary file of which the
            system keeps in memory what is read (its folder is TMPDIR).
    """

    copies: NotNegative | None = 0.05
    screen: Positive | None = None
    max_served: Count | None = None
    exact_below: Count = 20_000
    recall: Share = 0.95
    precision: Literal["exact", "float16"] = "exact"
    rows: Literal["memory", "mapped"] = "memory"

    def __post_init__(self) -> None:
        check_options(self, "pool")
