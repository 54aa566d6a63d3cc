"""Train gates after their prompts and separately, if only prompts get noise.

Under a decoupled private step the prompt is trained as if it were alone. The gate then learns from
the finished prompt: it reads what is private already, and never leaves the client.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from pfedmoap.client.placement import placed
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.client.schedules import CONSTANT, Schedule
from pfedmoap.contract.stacking import TrainedClient
from pfedmoap.contract.tasks import ClientTask, Setting
from pfedmoap.methods.pfedmoap.mixture import GateProblem, Mixture
from pfedmoap.methods.pfedmoap.served_experts import ClassFeatures, expert_count, stack_experts
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.prompts.tuning import tune
from pfedmoap.wire.messages import Arrays


def with_gates(
    tuned: Sequence[TrainedClient],
    features: ClassFeatures,
    encoder: PromptEncoder,
    mixture: Mixture,
    start: Callable[[Sequence[ClientTask]], Arrays],
    setting: Setting,
    learning_rates: Mapping[str, float],
    schedule: Schedule = CONSTANT,
) -> list[TrainedClient]:
    """Train the gates of clients whose prompts are finished.

    No noise is added and no privacy is accounted for: that is sound only for gates that stay with
    their clients.

    Args:
        tuned: Clients with a trained ``context`` (L, W).
        features: Class features (C, D) of the experts that each was served.
        encoder: From contexts (K, L, W) to class features (K, C, D).
        mixture: The gate's form.
        start: What the gates of K tasks start from, by name, each (K, ...).
        setting: Backbone, classes, training options and seed.
        learning_rates: Step size of each of the gate's parameters; empty where it has none.
        schedule: How those change.

    Returns:
        The same clients, with the gate beside the prompt for those that were served experts.
    """
    if not learning_rates:
        return list(tuned)
    prompts = {client.task.download.client: client.params["context"] for client in tuned}

    def begin(batch: list[ClientTask]) -> tuple[GateProblem, Arrays]:
        own = torch.stack([prompts[task.download.client] for task in batch])
        with torch.no_grad():
            text = encoder(placed(own, setting.backbone.device))  # (K, C, D)
        experts = stack_experts(batch, features, setting)  # (K, k, C, D)
        return GateProblem(mixture, torch.cat([text[:, None], experts], dim=1)), start(batch)

    served = [client.task for client in tuned if expert_count(client.task) is not None]
    trained = tune(
        served,
        setting,
        NoPrivacy(),
        begin,
        key=expert_count,
        learning_rates=learning_rates,
        schedules=dict.fromkeys(learning_rates, schedule),
        phase="gate",
    )
    gates = {client.task.download.client: client.params for client in trained}
    return [
        replace(client, params={**client.params, **gates.get(client.task.download.client, {})})
        for client in tuned
    ]
