"""The experts that clients are served: packed into arrays, encoded, stacked, used by newcomers.

A client with an entry in the pool is sent ``experts`` (k, L, W) and ``expert_clients`` (k,), and
keeps both. One without an entry may be sent ``guest_experts``, which are only classified with.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pfedmoap.contract.predicting import PredictionTask
from pfedmoap.contract.tasks import ClientTask, Prediction, Setting
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.prompts.encoding import EncodedOnce
from pfedmoap.prompts.tuning import classify
from pfedmoap.server.expert import Expert
from pfedmoap.wire.messages import Arrays, ClientId

EXPERTS = "experts"
OWNERS = "expert_clients"
GUESTS = "guest_experts"

ClassFeatures = Mapping[ClientId, Sequence[Tensor]]
"""Class features (C, D) of each expert that a client was served, by client."""


def pack_experts(served: Sequence[Expert], context: Tensor) -> Arrays:
    """Put experts and whose they are into arrays.

    Args:
        served: k experts, in the order in which they are served; k may be 0.
        context: Any prompt (L, W), for shape and dtype if k is 0.

    Returns:
        ``experts`` (k, L, W) and ``expert_clients`` (k,) int64.
    """
    contexts = [expert.context for expert in served]
    stacked = torch.stack(contexts) if contexts else context.new_zeros(0, *context.shape)
    ids = [expert.client for expert in served]
    return {EXPERTS: stacked, OWNERS: torch.tensor(ids, dtype=torch.int64)}


def pack_guests(served: Sequence[Expert]) -> Arrays:
    """Put a newcomer's experts, at least one, into ``guest_experts`` (k, L, W)."""
    return {GUESTS: torch.stack([expert.context for expert in served])}


def held_experts(arrays: Arrays) -> Arrays:
    """Select the arrays of experts and of their clients; empty if a client was served none."""
    return {name: arrays[name] for name in (EXPERTS, OWNERS) if name in arrays}


def without_expert(local: Arrays, client: ClientId) -> Arrays:
    """Drop one client's expert from those that another one holds; see `CanForget`.

    Args:
        local: What the other client holds.
        client: Whose expert goes.
    """
    if client not in local.get(OWNERS, ()):
        return local
    stays = local[OWNERS] != client
    return {**local, EXPERTS: local[EXPERTS][stays].clone(), OWNERS: local[OWNERS][stays].clone()}


def expert_owners(arrays: Arrays) -> tuple[ClientId, ...]:
    """Whose prompts the packed experts are, in their order; nobody's where there are none."""
    if EXPERTS not in arrays or OWNERS not in arrays:
        return ()
    return tuple(ClientId(owner) for owner in arrays[OWNERS].tolist())


def owners_held(task: PredictionTask) -> tuple[ClientId, ...]:
    """Whose prompts a client that is to predict holds as experts."""
    return expert_owners(task.local or {})


def expert_count(task: ClientTask) -> int | None:
    """How many experts a client was served; ``None`` for one without an entry in the pool."""
    experts = task.download.arrays.get(EXPERTS)
    return None if experts is None else len(experts)


def encode_experts(tasks: Sequence[ClientTask], encode: EncodedOnce) -> ClassFeatures:
    """Encode all experts of a round, each once, however many clients it serves.

    Args:
        tasks: The round's tasks.
        encode: From contexts (L, W) to class features (C, D).

    Returns:
        Class features by client.
    """
    sent = [(task.download.client, task.download.arrays) for task in tasks]
    served = [(client, arrays.get(EXPERTS, ())) for client, arrays in sent]
    owners = [owner for _, arrays in sent for owner in expert_owners(arrays)]
    encoded = iter(encode([expert for _, experts in served for expert in experts], owners))
    return {client: [next(encoded) for _ in experts] for client, experts in served}


def stack_experts(tasks: Sequence[ClientTask], features: ClassFeatures, setting: Setting) -> Tensor:
    """Stack the class features of equally many experts of K clients.

    Args:
        tasks: K tasks.
        features: Class features by client.
        setting: Backbone, classes, training options and seed.

    Returns:
        (K, k, C, D), on the backbone's device.
    """
    backbone = setting.backbone
    shape = (len(setting.class_names), backbone.embed_dim)
    flat = [feature for task in tasks for feature in features[task.download.client]]
    stacked = torch.stack(flat) if flat else torch.zeros(0, *shape, device=backbone.device)
    return stacked.view(len(tasks), -1 if flat else 0, *shape)


@torch.no_grad()
def newcomers_vote(
    encoder: PromptEncoder, sent: Arrays, setting: Setting, image: Tensor
) -> Prediction:
    """Classify with the prompt that a newcomer was sent and its guest experts, equally weighted.

    Args:
        encoder: From contexts (E, L, W) to class features (E, C, D).
        sent: ``context`` (L, W), and ``guest_experts`` (k, L, W) where there are some.
        setting: Backbone, classes, training options and seed.
        image: Image features, (B, D).

    Returns:
        Mean logits over the prompts, (B, C).
    """
    prompts = (sent["context"], *sent.get(GUESTS, ()))
    votes = [classify(encoder, prompt, setting, image).logits for prompt in prompts]
    return Prediction(torch.stack(votes).mean(0) if len(votes) > 1 else votes[0])
