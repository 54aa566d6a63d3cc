"""Prompt tuning (CoOp, arXiv 2109.01134), as all text-prompt methods use it."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.local_training import Stepping, train_locally
from pfedmoap.client.optimisers import Optimiser
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.client.problem import OF_CLIENTS, Problem
from pfedmoap.client.schedules import Schedule
from pfedmoap.contract.batch_size import batch_size_for
from pfedmoap.contract.stacking import TrainedClient, client_batches, cohort_of, returning
from pfedmoap.contract.tasks import ClientTask, Prediction, Setting
from pfedmoap.errors import ConfigError
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.logits import cosine_logits, cross_entropy
from pfedmoap.wire.messages import Arrays, ClientId, Download


def sentences(setting: Setting, template: str | None = None) -> list[list[str]]:
    """Put the class names into hand-written prompts.

    Args:
        setting: The task; its templates are used where none is given.
        template: One template with ``{}`` for the class name.

    Returns:
        C texts for each template.

    Raises:
        ConfigError: A template has no place for the class name.
    """
    templates = setting.templates if template is None else (template,)
    if wrong := [each for each in templates if "{}" not in each]:
        raise ConfigError(
            f"the template {wrong[0]!r} has no {{}} in the place of the class name, so that all "
            "classes would be the same"
        )
    return [[each.replace("{}", name) for name in setting.class_names] for each in templates]


def check_templates(setting: Setting, template: str | None = None) -> None:
    """Refuse class names that are too long for a hand-written prompt, before any work begins.

    Args:
        setting: The task.
        template: See `sentences`.

    Raises:
        BackboneError: A text would be cut off, or the backbone has no texts of this kind.
        ConfigError: A template has no place for the class name.
    """
    setting.backbone.require_features(("image",))
    for texts in sentences(setting, template):
        setting.backbone.tokenise(texts)


@torch.no_grad()
def template_features(setting: Setting, template: str | None = None) -> Tensor:
    """Encode the class names in hand-written prompts.

    Args:
        setting: Its templates are used if none is given.
        template: One template with ``{}`` for the class name.

    Returns:
        Unit-norm mean over the templates, (C, D).
    """
    encoded = [setting.backbone.text_features(texts) for texts in sentences(setting, template)]
    return F.normalize(torch.stack(encoded).sum(0), dim=-1)


@torch.no_grad()
def classify(
    encoder: PromptEncoder, context: Tensor, setting: Setting, image: Tensor
) -> Prediction:
    """Classify images (B, D) with one prompt (L, W); both may be on any device."""
    backbone = setting.backbone
    text = encoder(context[None].to(backbone.device))[0]  # (C, D)
    return Prediction(cosine_logits(image.to(backbone.device), text, backbone.logit_scale))


def broadcast(arrays: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
    """Make a download of the same arrays for every client of a cohort, in the order of ids."""
    return [Download(round, client, arrays) for client in sorted(cohort)]


def whole_prompt(params: Arrays) -> Tensor:
    """Return the prompt of clients that train it as one parameter, (K, L, W)."""
    return params["context"]


@dataclass(frozen=True)
class PromptProblem(Problem):
    """Cross-entropy of each client's prompt, with an optional proximal term (FedProx).

    Attributes:
        encoder: From contexts (E, L, W) to class features (E, C, D).
        scale: Logit scale.
        compose: Assembles the prompts from their parts, (K, L, W), or (K, P, L, W) for P a client.
        proximal: Weight mu of ``mu / 2 ||P - anchor||^2`` (FedProx, arXiv 1812.06127, eq. 2).
        anchor: Centre of the proximal term of ``context``, (K, L, W); ``None`` for no such term.
        fixed: Parts of the prompts that are not trained, by name, each (K, ...).
    """

    encoder: PromptEncoder
    scale: float
    compose: Callable[[Arrays], Tensor] = whole_prompt
    proximal: float = 0.0
    anchor: Tensor | None = field(default=None, metadata=OF_CLIENTS)
    fixed: Arrays = field(default_factory=dict, metadata=OF_CLIENTS)

    def encode(self, params: Arrays) -> Tensor:
        """Class features of the prompts, (K, C, D) or (K, P, C, D)."""
        prompts = self.compose({**self.fixed, **params})
        encoded: Tensor = self.encoder(prompts.flatten(0, -3)).unflatten(0, prompts.shape[:-2])
        return encoded

    def represent(self, params: Arrays) -> Arrays:
        """Encode the prompts."""
        return {"text": self.encode(params)}

    def logits(self, text: Tensor, features: Arrays) -> Tensor:
        """Classify images: class features (..., C, D) and features by kind, to (..., B, C)."""
        return cosine_logits(features["image"], text, self.scale)

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy over all classes, (K, B)."""
        del params
        return cross_entropy(self.logits(shared["text"], features), labels)

    def penalty(self, params: Arrays) -> Tensor:
        """The proximal term, (K,); its gradient flows into the prompt."""
        if self.anchor is None:
            return super().penalty(params)
        return self.proximal / 2 * (params["context"] - self.anchor).pow(2).flatten(1).sum(1)


def tune(
    tasks: Sequence[ClientTask],
    setting: Setting,
    privatizer: Privatizer,
    begin: Callable[[list[ClientTask]], tuple[Problem, Arrays]],
    *,
    key: Callable[[ClientTask], Hashable] = lambda _: 0,
    learning_rates: Mapping[str, float] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    optimiser: Optimiser | None = None,
    phase: str | None = None,
) -> list[TrainedClient]:
    """Train a round's clients, in batches of clients with equal shapes.

    Args:
        tasks: The round's tasks in any order.
        setting: Training options and seed.
        privatizer: How gradients are formed.
        begin: Makes K tasks' local problem and initial parameters, each (K, ...).
        key: Clients with different keys never train in one batch.
        learning_rates: Step sizes of parameters that differ from the prompt's.
        schedules: How those change; all others go by the training's.
        optimiser: ``None`` for the training's SGD.
        phase: Name of the training if the round has several; see `Stream`.

    Returns:
        The trained clients, in the order of their ids.
    """
    tuned: list[TrainedClient] = []
    begun: deque[Callable[[], list[TrainedClient]]] = deque()
    size = batch_size_for(tasks, setting, begin, key)
    for batch in client_batches(tasks, size, key):
        problem, params = begin(batch)
        rates = dict.fromkeys(params, setting.training.learning_rate) | dict(learning_rates or {})
        trained = train_locally(
            problem,
            params,
            cohort_of(batch, setting.seed, setting.backbone.device, phase),
            Stepping(
                setting.training,
                rates,
                privatizer,
                optimiser,
                setting.steps,
                size,
                schedules or {},
                setting.rounds,
            ),
        )
        # A GPU still trains these: the next batch is made ready before anybody waits for them.
        begun.append(returning(batch, trained))
        if len(begun) > 1:
            tuned += begun.popleft()()
    for finish in begun:
        tuned += finish()
    return sorted(tuned, key=lambda client: client.task.download.client)
