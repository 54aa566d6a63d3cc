"""The table of attacks: one row a method, attack, share of attackers and defence."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.attacks.catalogue import NONE
from eval.attacks.outcome import Outcome
from eval.attacks.spec import Case, Plan

SCHEMA, SCHEMA_VERSION = "pfedmoap.attacks", 1


@dataclass(frozen=True)
class Row:
    """Figures of one combination, means over seeds.

    Attributes:
        method: Label of the method.
        attack: Name of the attack, or `NONE`.
        share: Share of hostile clients.
        defence: Label of the defence.
        honest: Accuracy of the honest clients' own models, mean over clients.
        lost: How much lower it is, in points, than that of the same clients in the federation
            without attackers and with the reference defence; negative where it is higher.
        lost_most: The same of the seed that lost most.
        worst: Accuracy of the worst honest client.
        shared: Accuracy of the global model on honest clients' test images; ``None`` without one.
        fooled: Share of triggered test images taken for the target class.
        served: Share of honest clients that were served an attacker's expert; ``None`` without a
            pool.
        precision: Share of hostile uploads among those that the server reported; ``None`` if it
            reported none.
        recall: Share of the hostile uploads that it reported; ``None`` without attackers.
    """

    method: str
    attack: str
    share: float
    defence: str
    honest: float
    lost: float
    lost_most: float
    worst: float
    shared: float | None
    fooled: float
    served: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class AttackTable:
    """All rows of a plan.

    Attributes:
        plan: The plan's file, as JSON.
        methods: Labels of the methods.
        defences: Labels of the defences; the first is the reference.
        attacks: Names of the attacks.
        shares: Shares of hostile clients.
        recommended: Label of the recommended defence.
        rows: The figures.
    """

    plan: Mapping[str, Any]
    methods: Sequence[str]
    defences: Sequence[str]
    attacks: Sequence[str]
    shares: Sequence[float]
    recommended: str
    rows: Sequence[Row]

    def row(self, method: str, attack: str, share: float, defence: str) -> Row:
        """Find a row.

        Raises:
            KeyError: There is none.
        """
        wanted = (method, attack, share, defence)
        for row in self.rows:
            if (row.method, row.attack, row.share, row.defence) == wanted:
                return row
        raise KeyError(wanted)

    def defences_at(self, share: float) -> list[str]:
        """The defences that were run at a share of hostile clients."""
        run = {row.defence for row in self.rows if row.share == share}
        return [defence for defence in self.defences if defence in run]

    def most_lost(self, method: str, share: float, defence: str) -> Row:
        """The row of the attack that takes most from the honest clients."""
        rows = [self.row(method, attack, share, defence) for attack in self.attacks]
        return max(rows, key=lambda row: row.lost)

    def to_json(self) -> dict[str, Any]:
        """As JSON, figures rounded to five digits behind the point."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            **{name: value for name, value in vars(self).items() if name != "rows"},
            "rows": [
                {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(row).items()}
                for row in self.rows
            ],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "AttackTable":
        """Inverse of `to_json`, up to rounding."""
        return cls(
            plan=found["plan"],
            methods=found["methods"],
            defences=found["defences"],
            attacks=found["attacks"],
            shares=found["shares"],
            recommended=found["recommended"],
            rows=[Row(**row) for row in found["rows"]],
        )


def tabulate(plan: Plan, outcomes: Mapping[Case, Outcome]) -> AttackTable:
    """Average the outcomes of a finished plan over its seeds."""
    found: dict[tuple[str, str, float, str], dict[int, Outcome]] = {}
    for case, outcome in outcomes.items():
        key = (case.method, case.attack, case.share, case.defence)
        found.setdefault(key, {})[case.seed] = outcome
    reference = plan.defences[0]
    rows = [
        _row(*key, by_seed, found[key[0], NONE, 0.0, reference]) for key, by_seed in found.items()
    ]
    return AttackTable(
        plan.source,
        plan.methods,
        plan.defences,
        plan.attacks,
        plan.shares,
        plan.recommended,
        rows,
    )


def _row(
    method: str,
    attack: str,
    share: float,
    defence: str,
    by_seed: Mapping[int, Outcome],
    clean: Mapping[int, Outcome],
) -> Row:
    each = list(by_seed.values())
    lost = [
        100 * float(np.mean([clean[seed].accuracy[c] - value for c, value in one.accuracy.items()]))
        for seed, one in by_seed.items()
    ]
    hostile, caught, accused = (
        sum(getattr(one.reported, name) for one in each)
        for name in ("hostile", "caught", "accused")
    )
    return Row(
        method,
        attack,
        share,
        defence,
        honest=float(np.mean([np.mean(list(one.accuracy.values())) for one in each])),
        lost=float(np.mean(lost)),
        lost_most=max(lost),
        worst=float(np.mean([min(one.accuracy.values()) for one in each])),
        shared=_mean([one.shared for one in each]),
        fooled=float(np.mean([one.fooled for one in each])),
        served=_mean([one.served for one in each]),
        precision=caught / (caught + accused) if caught + accused else None,
        recall=caught / hostile if hostile else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
