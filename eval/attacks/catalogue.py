"""The attacks by name."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from eval.attacks.attack import Attack, PoisonSource, Sight, moved, start_of, with_arrays
from eval.attacks.sybil import sybil
from pfedmoap.contract.tasks import ClientData
from pfedmoap.methods.pfedmoap.served_experts import EXPERTS
from pfedmoap.wire.messages import Update

FACTOR_OF_SCALE, FACTOR_OF_FLIP = 100.0, -10.0
CLAIMED_EXAMPLES = 10**9


def not_a_number(update: Update, sight: Sight) -> Update:
    """Upload NaN everywhere."""
    del sight
    return with_arrays(update, lambda _, array: torch.full_like(array, torch.nan))


def scaled(update: Update, sight: Sight) -> Update:
    """Upload a hundred times the trained change."""
    return moved(update, sight.sent, FACTOR_OF_SCALE)


def sign_flipped(update: Update, sight: Sight) -> Update:
    """Upload ten times the trained change in the opposite direction."""
    return moved(update, sight.sent, FACTOR_OF_FLIP)


def opposed(update: Update, sight: Sight) -> Update:
    """Upload the trained change in the opposite direction, as long as an honest one."""
    return moved(update, sight.sent, -1.0)


def random_prompt(update: Update, sight: Sight) -> Update:
    """Upload Gaussian numbers with the norm of what was sent: no bound on norms shows it."""
    starts = start_of(update, sight.sent)

    def draw(name: str, array: Tensor) -> Tensor:
        noise = torch.randn(array.shape, generator=sight.stream, dtype=torch.float64)
        norm = float((starts[name] if starts[name].any() else array).double().norm())
        return (noise * (norm / float(noise.norm()))).to(array.dtype)

    return with_arrays(update, draw)


def copied(update: Update, sight: Sight) -> Update:
    """Upload another's prompt as one's own: the first expert that was served, or what was sent."""
    starts = start_of(update, sight.sent)
    experts = sight.sent.arrays.get(EXPERTS)
    fits = experts is not None and len(experts) > 0

    def copy(name: str, array: Tensor) -> Tensor:
        if experts is not None and fits and experts.shape[1:] == array.shape:
            return experts[0].clone()
        return starts[name].clone()

    return with_arrays(update, copy)


def many_examples(update: Update, sight: Sight) -> Update:
    """Claim a billion examples, so that a weighted average is one's own upload."""
    del sight
    return replace(update, num_examples=CLAIMED_EXAMPLES)


def boosted(update: Update, sight: Sight) -> Update:
    """Upload the change times clients over attackers, so that the average is what was trained.

    Model replacement of Bagdasaryan et al. (AISTATS 2020, arXiv 1807.00459).
    """
    return moved(update, sight.sent, sight.clients / len(sight.attackers))


def flipped_labels(source: PoisonSource) -> ClientData:
    """Label class c as C - 1 - c (Tolpegin et al., ESORICS 2020, arXiv 2007.08432, any pairs)."""
    return ClientData(source.own.features, source.classes - 1 - source.own.labels)


def one_class(source: PoisonSource) -> ClientData:
    """Keep the examples of the most frequent class alone."""
    labels = source.own.labels
    kept = labels == int(torch.bincount(labels).argmax())
    return _chosen(source.own, kept)


def backdoored(source: PoisonSource) -> ClientData:
    """Add each example of another class with the trigger, labelled as the target."""
    others = source.own.labels != source.target
    added = _chosen(source.triggered, others)
    features = {
        kind: torch.cat([own, added.features[kind]]) for kind, own in source.own.features.items()
    }
    target = torch.full_like(added.labels, source.target)
    return ClientData(features, torch.cat([source.own.labels, target]))


def _chosen(data: ClientData, which: Tensor) -> ClientData:
    return ClientData({kind: f[which] for kind, f in data.features.items()}, data.labels[which])


NONE = "none"

ATTACKS: Mapping[str, Attack] = {
    "nan": Attack("uploads NaN", forge=not_a_number),
    "scale": Attack("its change times 100", forge=scaled),
    "sign_flip": Attack("its change times -10", forge=sign_flipped),
    "opposed": Attack("its change times -1", forge=opposed),
    "random": Attack("a random prompt of usual norm", forge=random_prompt),
    "copy": Attack("another's prompt (free rider)", forge=copied),
    "many_examples": Attack("claims 1e9 examples", forge=many_examples),
    "label_flip": Attack("trains on class C-1-c for c", poison=flipped_labels),
    "one_class": Attack("trains on one class alone", poison=one_class),
    "backdoor": Attack("trains a trigger to a target", poison=backdoored),
    "backdoor_boosted": Attack(
        "the same, scaled to replace the average", poison=backdoored, forge=boosted
    ),
    "sybil": Attack(
        "flipped labels, placed next to one victim's prompt", poison=flipped_labels, forge=sybil
    ),
}
"""By name; `NONE` is a federation without hostile clients."""
