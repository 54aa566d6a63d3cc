"""``audit``: try to refute the privacy of a method, and of mechanisms broken on purpose."""

import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from eval.commands.errors import readable_errors
from eval.console import console
from eval.experiment import Workbench, schema
from pfedmoap.errors import ConfigError
from pfedmoap.gradients import PlannedTraining
from privacy.audit import Audit, halves
from privacy.options import DPSGD
from privacy.randomness import Randomness
from privacy.verdicts import Verdict, audit_all

# A short run with few ordinary examples and many canaries, and without amplification by sampling,
# where an auditor sees best; every option may be given anew.
_DEFAULTS = (
    *("--privacy", "dpsgd", "--privacy.epsilon", "1", "--privacy.sample_rate", "1"),
    *("--partition", "iid", "--partition.clients", "20"),
    *("--training.epochs", "1", "--rounds.rounds", "4"),
)
_WIDTH = 120  # of the table where the terminal is narrower, or there is none


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Audit; see ``--help``."""
    given = sys.argv[1:] if arguments is None else arguments
    config, options = schema().parse(
        [*_DEFAULTS, *given],
        "Audit differential privacy: a lower bound on epsilon from one run with canaries, "
        "membership inference, and one example's pull on a step in units of its noise.",
        {
            "canaries": (30, "canaries of each client, half of which are trained on"),
            "members": (20, "ordinary examples of each client"),
            "audit_seed": (0, "seed of canaries, members and the inclusion of canaries"),
        },
    )
    experiment = Workbench().prepare(config)
    claim = experiment.privacy
    if not isinstance(claim, DPSGD):
        raise ConfigError("audit needs `--privacy dpsgd`; it audits the release mode beside it")
    if claim.unit != "example":
        raise ConfigError("audit draws and removes single images: use `--privacy.unit example`")
    if claim.clipping != "fixed":
        raise ConfigError("audit repeats single steps: use `--privacy.clipping fixed`")
    training, rounds = config.build("training"), config.build("rounds").rounds
    draws = Randomness(options["audit_seed"])
    parts = {
        client: halves(data, options["members"], draws.stream("members", client))
        for client, data in experiment.federation.training_data.items()
    }
    audit = Audit(
        method=experiment.method,
        members={client: members for client, (members, _) in parts.items()},
        others={client: others for client, (_, others) in parts.items()},
        rounds=rounds,
        canaries=options["canaries"],
        max_grad_norm=claim.max_grad_norm,
        seed=options["audit_seed"],
    )
    planned = PlannedTraining(rounds, training.epochs, training.batch_size)
    verdicts = []
    for verdict in audit_all(audit, claim, planned):
        console.print(f"{verdict.name}: {_judgement(verdict)}")
        verdicts.append(verdict)
    title = f"{config.name('method')}, {rounds} rounds, delta {claim.delta:g}, confidence 95 %"
    wide = Console(width=max(_WIDTH, console.width))
    wide.print(_table(verdicts, title))
    wrong = [verdict.name for verdict in verdicts if verdict.flagged == verdict.sound]
    if wrong:
        console.print(f"the audit failed for: {', '.join(wrong)}")
        sys.exit(2)


def _table(verdicts: Sequence[Verdict], title: str) -> Table:
    canaries = verdicts[0].bound.canaries
    table = Table(title=f"{title}; {canaries} canaries, one run each", title_justify="left")
    for heading in (
        *("mechanism", "claimed epsilon", "refuted below", "right guesses"),
        *("canary AUC", "TPR at 1 % FPR", "member AUC", "pull", "verdict"),
    ):
        table.add_column(
            heading, justify="left" if heading in ("mechanism", "verdict") else "right"
        )
    for verdict in verdicts:
        bound = verdict.bound
        table.add_row(
            verdict.name,
            f"{verdict.claimed:g}",
            f"{bound.epsilon:.2f}",
            f"{bound.correct}/{bound.guesses}" if bound.guesses else "-",
            f"{verdict.canaries.auc:.3f}",
            f"{verdict.canaries.tpr_at_1_fpr:.3f}",
            f"{verdict.examples.auc:.3f}",
            "-" if verdict.sensitivity is None else f"{verdict.sensitivity:.2f}",
            _judgement(verdict),
        )
    return table


def _judgement(verdict: Verdict) -> str:
    if verdict.claimed == math.inf:
        return "claims nothing"
    if not verdict.flagged:
        return "not refuted"
    how = [*(["uploads"] if verdict.refuted else []), *(["step"] if verdict.oversensitive else [])]
    return f"BROKEN (seen in {' and '.join(how)})"
