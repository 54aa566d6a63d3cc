"""Heads of models that mix the prompts of several clients."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pfedmoap.contract.folding import Folded
from pfedmoap.exported.head import Answered, Head, sides_of
from pfedmoap.methods.evidence_mixture.evidence import log_probabilities, mix
from pfedmoap.methods.pfedmoap.folded_gate import gate_of
from pfedmoap.methods.pfedmoap.mixture import GATE
from pfedmoap.models.clip.image_tower import ImageTower
from pfedmoap.models.logits import cosine_logits
from pfedmoap.storage.strict_json import number

_OPTIONS = {"own_weight", "gate", "heads", "attention_scale", "pooling", "score", "renormalise"}


class MixtureHead(Head):
    """pFedMoAP's gate over ``text`` (E, C, D); ``gate.*`` are its weights."""

    text: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        gate = {k: v for k, v in folded.arrays.items() if k.startswith(GATE)}
        rest = {k: v for k, v in folded.arrays.items() if k not in gate}
        names = [name for name in folded.options if name != "scale"]
        super().__init__(folded, tower, classes, names)
        if unknown := set(names) - _OPTIONS:
            raise ValueError(f"options {sorted(unknown)} are unknown")
        self.keep(replace(folded, arrays=rest), text=(None, classes, None))
        weights = {name.removeprefix(GATE): value.float().cpu() for name, value in gate.items()}
        self.gate = gate_of(folded.options, weights).requires_grad_(False)
        self.own_weight = number(folded.options.get("own_weight"), "own_weight")
        experts, _, width = self.text.shape
        self.gate(
            torch.zeros(1, width), torch.zeros(experts, 1, width)
        )  # refuses what does not fit

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        image = seen["image"]
        scores, attention = self.gate(image, self.text)
        own = cosine_logits(image, self.text[0], self.scale)
        return self.scale * scores + self.own_weight * own, attention


class EvidenceHead(Head):
    """The evidence mixture: ``text`` (E, C, D) and what is fitted beside it."""

    text: Tensor
    expert_weights: Tensor
    class_prior: Tensor
    residual_head: Tensor

    def __init__(self, folded: Folded, tower: ImageTower, classes: int) -> None:
        super().__init__(folded, tower, classes, ("gate",))
        experts, _, width = sides_of(folded, "text", 3)
        self.keep(
            folded,
            text=(experts, classes, width),
            expert_weights=(experts,),
            class_prior=(classes,),
            residual_head=(classes, width),
        )

    def forward(self, seen: Mapping[str, Tensor]) -> Answered:
        """Classify; see `Head.forward`."""
        image = seen["image"]
        known = log_probabilities(image, self.text, self.scale)
        logits = mix(known, self.expert_weights) + self.class_prior + image @ self.residual_head.T
        if not self.options["gate"]:
            return logits, None
        return logits, self.expert_weights.expand(*logits.shape, -1)
