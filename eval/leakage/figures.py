"""Observe all settings of a plan, and the table of what was inferred."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.escaping import for_markdown
from eval.experiment import ExperimentLoader
from eval.leakage.label_sets import right_guesses
from eval.leakage.membership import Guesses, guess_members
from eval.leakage.observed import observe
from eval.leakage.plan import LeakagePlan
from eval.logs import muted
from pfedmoap.errors import ConfigError
from pfedmoap.methods.promptfl import PromptFL
from privacy.auditing.membership import Separation

SCHEMA, SCHEMA_VERSION = "pfedmoap.leakage", 1


@dataclass(frozen=True)
class Leak:
    """What was inferred from the uploads of one setting, over all seeds.

    Attributes:
        setting: Its label.
        labels: Share of right guesses of clients' classes; ``None`` where only the server's states
            were observed, which say nothing about one client.
        chance: The share that chance gets right.
        difference: Membership, by the calibrated threshold.
        lira: Membership, by shadows.
    """

    setting: str
    labels: float | None
    chance: float
    difference: Separation
    lira: Separation


def leaks(
    plan: LeakagePlan, loader: ExperimentLoader, advance: Callable[[str, int], None]
) -> list[Leak]:
    """Observe every setting of a plan.

    Args:
        plan: The plan.
        loader: Loads data and backbone.
        advance: Called with each setting and how many runs are done before it.

    Raises:
        ConfigError: A method uploads no single prompt of context vectors.
    """
    found = []
    for number, setting in enumerate(plan.settings):
        right = made = 0
        chance, guesses = 0.0, []
        one_by_one = plan.configs[setting, "label_sets"].name("privacy") != "central"
        for turn, seed in enumerate(plan.seeds):
            advance(setting, number * len(plan.seeds) + turn)
            with muted("privacy"):  # warnings about budgets of runs that are not kept
                experiment = loader.prepare(plan.config(setting, "label_sets", seed))
                trainer = _trainer(experiment.method)
                if one_by_one:
                    seen = observe(experiment)
                    hits, tries, chance = right_guesses(seen, trainer.encoder, trainer.setting)
                    right, made = right + hits, made + tries
                experiment = loader.prepare(plan.config(setting, "membership", seed))
                trainer = _trainer(experiment.method)
                guesses.append(guess_members(observe(experiment), trainer, plan.shadows, seed))
        figures = Guesses.joined(guesses).separations()
        share = right / made if made else None
        found.append(Leak(setting, share, chance, figures["difference"], figures["lira"]))
    return found


def _trainer(method: Any) -> PromptFL:  # any method; what it lacks is refused
    length = getattr(method, "context_length", None)
    if length is None or "context" not in method.uploads:
        raise ConfigError("what is observed is an uploaded prompt: use pfedmoap or promptfl")
    return PromptFL(method.setting, context_length=length)


def to_json(plan: LeakagePlan, found: Sequence[Leak]) -> dict[str, Any]:
    """The record of a plan's figures."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "plan": plan.source,
        "leaks": [asdict(leak) for leak in found],
    }


def from_json(record: Mapping[str, Any]) -> list[Leak]:
    """The figures of a record."""
    return [
        Leak(
            each["setting"],
            each["labels"],
            each["chance"],
            Separation(**each["difference"]),
            Separation(**each["lira"]),
        )
        for each in record["leaks"]
    ]


HEADINGS = (
    "uploads",
    "classes guessed right",
    "membership AUC, difference",
    "TPR at 1 % FPR",
    "membership AUC, LiRA",
    "TPR at 1 % FPR",
)


def rows(found: Sequence[Leak]) -> list[tuple[str, ...]]:
    """One row a setting, and one of chance at the end."""
    shown = [
        (leak.setting, _percent(leak.labels), *_shown(leak.difference), *_shown(leak.lira))
        for leak in found
    ]
    chance = max((leak.chance for leak in found), default=0.0)
    return [*shown, ("chance", _percent(chance), *_shown(Separation(0.5, 0.01)) * 2)]


def markdown(found: Sequence[Leak]) -> str:
    """The table for the documentation."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(map(for_markdown, row)) + " |" for row in rows(found)]
    return "\n".join(lines) + "\n"


def _shown(one: Separation) -> tuple[str, str]:
    return f"{one.auc:.2f}", f"{100 * one.tpr_at_1_fpr:.1f} %"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
