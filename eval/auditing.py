"""Make the audit of a configuration's privacy claim: data, canaries and number of rounds."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from eval.choices import schema
from eval.experiment import Experiment, ExperimentLoader
from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.config.schema import Config
from pfedmoap.errors import ConfigError, DataError
from privacy.accounting.plan import client_rounds
from privacy.auditing.audit import Audit, halves
from privacy.auditing.audit_table import Verdict
from privacy.auditing.bounds import ideal_bounds
from privacy.auditing.trade_off import SampledSteps
from privacy.auditing.trials import audit_all
from privacy.mechanisms.randomness import Randomness
from privacy.options import DPSGD, Release

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditOptions:
    """How much is audited.

    Attributes:
        canaries: Image canaries of each client, half of which are trained on.
        gradient_canaries: Gradient canaries of each client, likewise.
        members: Ordinary examples of each client.
        clients: Most clients that are audited, those with the lowest ids.
        rounds: Most rounds that are audited; the noise stays that of the whole plan.
        seed: Of canaries, members and the inclusion of canaries.
    """

    canaries: int
    gradient_canaries: int
    members: int
    clients: int
    rounds: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """An audit that is ready to run.

    Attributes:
        config: The configuration whose claim is audited.
        data: Name of the data that it trains on.
        stand_in: Why these are not the configured data; ``None`` where they are.
        claim: The options that are audited.
        audit: The canaries and what they are hidden in.
        planned: The plan that the noise is calibrated for.
        options: How much is audited.
    """

    config: Config
    data: str
    stand_in: str | None
    claim: DPSGD | Release
    audit: Audit
    planned: PlannedTraining
    options: AuditOptions

    def verdicts(self) -> Iterator[Verdict]:
        """Audit every mechanism; see `audit_all`."""
        return audit_all(self.audit, self.claim, self.planned)

    def ideal(self) -> tuple[float, float] | None:
        """What the two bounds would be for ideal gradient canaries; none without private steps."""
        if not isinstance(self.claim, DPSGD):
            return None
        privatizer = self.claim.privatizer(self.audit.method, self.planned, None)
        budget = privatizer.ledgers.budget
        noise = float(budget.mechanism["noise_multiplier"])
        steps = SampledSteps(noise, self.claim.sample_rate, budget.units * self.audit.rounds)
        count = self.options.gradient_canaries * len(self.audit.members)
        return ideal_bounds(steps, count, self.claim.delta)


def prepare(config: Config, options: AuditOptions, loader: ExperimentLoader) -> Trial:
    """Load what a configuration names and make an audit of its claim.

    If its data cannot be loaded, the bundled digits are used instead: what is audited is the
    mechanism, whose guarantee must not depend on the data.

    Args:
        config: The configuration.
        options: How much is audited.
        loader: Loads what is named.

    Raises:
        ConfigError: It claims no privacy that the audit knows.
    """
    claim = config.build("privacy")
    if not isinstance(claim, DPSGD | Release):
        raise ConfigError(
            f"audit needs a claim, got `--privacy {config.name('privacy')}`: give `--privacy "
            "dpsgd` or `--privacy release`"
        )
    if isinstance(claim, DPSGD) and claim.clipping != "fixed":
        raise ConfigError(
            f"audit repeats single steps at one clipping norm, got privacy.clipping "
            f"{claim.clipping!r}: use `--privacy.clipping fixed`"
        )
    experiment, config, stand_in = _load(config, loader)
    data = dict(sorted(experiment.trainers.items())[: options.clients])
    draws = Randomness(options.seed)
    parts = {
        client: halves(own, options.members, draws.stream("members", client))
        for client, own in data.items()
    }
    cap = client_rounds(experiment.planned, claim.max_rounds_per_client).count
    audit = Audit(
        method=experiment.method,
        members={client: members for client, (members, _) in parts.items()},
        others={client: others for client, (_, others) in parts.items()},
        rounds=min(options.rounds, cap),
        canaries=options.canaries,
        gradient_canaries=options.gradient_canaries,
        max_grad_norm=claim.max_grad_norm if isinstance(claim, DPSGD) else 1.0,
        seed=options.seed,
    )
    # Where people are protected, each example of the audit is a person's only one.
    people = isinstance(claim, DPSGD) and claim.unit == "group"
    groups = {client: torch.arange(size) for client, size in audit.sizes.items()}
    planned = replace(experiment.planned, groups=groups if people else None)
    return Trial(
        config, experiment.federation.dataset.name, stand_in, claim, audit, planned, options
    )


def _load(config: Config, loader: ExperimentLoader) -> tuple[Experiment, Config, str | None]:
    try:
        return loader.prepare(config), config, None
    except (DataError, OSError) as error:
        why = f"{config.name('data')} could not be loaded ({error})"
    logger.warning("%s; the bundled digits stand in for it", why)
    clients = int(dict(config.sections["partition"]).get("clients", 20))
    plain: dict[str, Any] = {  # options of any type
        **config.sections,
        "data": {"name": "digits"},
        "partition": {"name": "iid", "clients": clients},
    }
    plain["sampling"] = {}
    stand_in = schema().resolve(plain)
    return loader.prepare(stand_in), stand_in, why
