"""The audit's verdict about one mechanism, from all of its measurements."""

import math
from dataclasses import dataclass

from privacy.auditing.bounds import CONFIDENCE, View
from privacy.auditing.membership import Separation
from privacy.auditing.noise_rows import NoiseFindings
from privacy.auditing.sensitivity import Pull

TOLERANCE = 1.1  # of a measured move: its noise is estimated from a few repeats
DRIFT = 5e-4  # of noise between neighbours: what comes out is rounded to 1/1024 of its spread


@dataclass(frozen=True)
class Verdict:
    """The audit's findings about one mechanism.

    Attributes:
        name: Which mechanism.
        sound: Whether it is meant to be private.
        claimed: Epsilon that it claims for the audited rounds; infinite where it claims nothing.
        views: What canaries show.
        examples: Membership inference on ordinary examples.
        pull: How one example moves a step; ``None`` where there is no private step.
        noise: Properties of the noise; ``None`` where there is none.
    """

    name: str
    sound: bool
    claimed: float
    views: tuple[View, ...]
    examples: Separation
    pull: Pull | None
    noise: NoiseFindings | None

    def refuted_by(self, sees: str) -> bool:
        """Whether canaries refute the claim, with Bonferroni correction over all views' tests."""
        level = (1 - CONFIDENCE) / len(self.views)
        return any(view.p_value < level for view in self.views if view.sees == sees)

    @property
    def seen_in(self) -> tuple[str, ...]:
        """Which checks found it broken: ``uploads``, ``steps``, ``pull``, ``noise``."""
        if math.isinf(self.claimed):
            return ()
        found = {
            "uploads": self.refuted_by("uploads"),
            "steps": self.refuted_by("steps"),
            "pull": self.pull is not None
            and (self.pull.move > TOLERANCE or self.pull.drift > DRIFT),
            "noise": self.noise is not None and bool(self.noise.flaws),
        }
        return tuple(name for name, wrong in found.items() if wrong)

    @property
    def flagged(self) -> bool:
        """Whether any check found it broken."""
        return bool(self.seen_in)
