"""Classify for many clients in one call: each prompt encoded once, gates side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import vmap

from pfedmoap.contract.folding import Folded, Scalar
from pfedmoap.contract.predicting import ManyModels, PredictionTask, same_arrays
from pfedmoap.contract.stacking import stack
from pfedmoap.contract.tasks import Prediction, Setting
from pfedmoap.methods.pfedmoap.folded_gate import gate_options
from pfedmoap.methods.pfedmoap.mixture import GATE, Mixture
from pfedmoap.methods.pfedmoap.served_experts import (
    EXPERTS,
    GUESTS,
    newcomers_vote,
    owners_held,
)
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.encoding import EncodedOnce
from pfedmoap.prompts.tuning import classify
from pfedmoap.wire.messages import Arrays, ClientId, Download

MOST_BYTES = 2**27
"""Class features that gates of one call may read; a call needs a few times as much."""

Form = Literal["vote", "mixture"]


@dataclass(frozen=True)
class ManyClients:
    """The clients' models side by side.

    Attributes:
        mixture: How a gate makes logits.
        setting: Backbone, classes, training options and seed.
        encode: From contexts (L, W) to class features (C, D), each once.
        initial_gate: The gate that all clients start from, by its names in a client's state.
        shared_gate: Whether clients are sent the averaged gate.
    """

    mixture: Mixture
    setting: Setting
    encode: EncodedOnce
    initial_gate: Arrays
    shared_gate: bool

    def predict(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """Answer all tasks, in their order."""
        return ManyModels(
            kinds=("image",),
            device=self.setting.backbone.device,
            classify=self._classify,
            model=_model,
            form=lambda task: (_form(task), len(_prompts(task))),
            at_most=self._at_most,
            experts=owners_held,
        ).predict(tasks)

    @torch.no_grad()
    def classify_alone(self, task: PredictionTask, encoder: PromptEncoder) -> Prediction:
        """Answer one task by itself, which is what the others must equal."""
        image, device = task.features["image"], self.setting.backbone.device
        if task.local is None:
            return newcomers_vote(encoder, task.download.arrays, self.setting, image)
        if EXPERTS not in task.local:
            return classify(encoder, task.local["context"], self.setting, image)
        text = encoder(torch.cat([task.local["context"][None], task.local[EXPERTS]]).to(device))
        gate = {name: value.to(device) for name, value in self._gate(task).items()}
        logits, attention = self.mixture.logits(gate, image.to(device), text)
        return Prediction(logits, attention, owners_held(task))

    @torch.no_grad()
    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """Encode one client's prompts; a vote of prompts is one of their mean class features."""
        task = PredictionTask(download, local, {})
        text = torch.stack(list(self.encode(_prompts(task))))  # (E, C, D)
        options: dict[str, Scalar] = {"scale": self.mixture.scale}
        if _form(task) == "vote":
            return Folded("cosine", options, {"text": text.mean(0)})
        options |= {"own_weight": self.mixture.own_weight, **gate_options(self.mixture.gate)}
        gate = {GATE + name: value for name, value in self._gate(task).items()}
        return Folded("mixture", options, {"text": text, **gate}, owners_held(task))

    def _gate(self, task: PredictionTask) -> Arrays:
        """A client's gate by the names that the mixture has for it."""
        source = task.download.arrays if self.shared_gate else task.local or {}
        return {name.removeprefix(GATE): source[name] for name in self.initial_gate}

    def _at_most(self, task: PredictionTask) -> int:
        width = self.setting.backbone.embed_dim
        return MOST_BYTES // (4 * len(_prompts(task)) * len(self.setting.class_names) * width)

    def _classify(
        self, batch: Sequence[PredictionTask], features: Arrays
    ) -> tuple[Tensor, Tensor | None]:
        """Classify images (K, B, D) with models of one form; see `ManyModels`."""
        prompts = [_prompts(task) for task in batch]
        texts = self.encode(
            [prompt for own in prompts for prompt in own],
            [owner for task, own in zip(batch, prompts, strict=True) for owner in _of(task, own)],
        )
        text = torch.stack(texts).unflatten(0, (len(batch), -1))  # (K, E, C, D)
        image = features["image"]
        if _form(batch[0]) == "vote":
            votes = cosine_logits(image[:, None], text, self.mixture.scale)  # (K, E, B, C)
            return votes.mean(1), None
        gates = stack([self._gate(task) for task in batch], self.setting.backbone.device)
        logits, attention = vmap(self.mixture.logits)(gates, image, text)
        return logits, attention


def _form(task: PredictionTask) -> Form:
    """A client with experts mixes them; others' prompts, one or more, have equal votes."""
    return "mixture" if EXPERTS in (task.local or {}) else "vote"


def _prompts(task: PredictionTask) -> tuple[Tensor, ...]:
    """The own prompt and those beside it, each (L, W)."""
    if task.local is None:
        sent = task.download.arrays
        return (sent["context"], *sent.get(GUESTS, ()))
    return (task.local["context"], *task.local.get(EXPERTS, ()))


def _of(task: PredictionTask, prompts: Sequence[Tensor]) -> Iterable[ClientId | None]:
    """Whose each of a client's prompts is, where that is known: its experts'."""
    owners = (None, *owners_held(task))
    return owners if len(owners) == len(prompts) else [None] * len(prompts)


def _model(task: PredictionTask) -> object:
    """All newcomers that are sent the same have the same model."""
    return same_arrays(task.download.arrays) if task.local is None else task.download.client
