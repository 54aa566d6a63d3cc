"""Evidence mixture: others' prompts, weighed by their likelihood of a client's own images.

A method of this package, no paper's. Each client tunes a prompt on its own images, from its own
last one on, and uploads it; the server keeps each client's last prompt in a pool and sends each
client the k prompts nearest to its own, as pFedMoAP does (Luo et al., ICLR 2025, arXiv 2410.10114).
What a client classifies with is made of three parts, the last one fitted to the others:

    log p(y | x) = log sum_e w_e p_e(y | x)  +  log pi_y  +  <v_y, x>  +  constant

1. the mixture of the served experts, each weighed by its likelihood of the client's images
   (`evidence`), and of the own prompt, which has seen these images and counts as one expert among
   1 + k, whatever they say;
2. the client's own class prior pi, from the counts of its labels, as far as its images foretell
   each other's labels;
3. a linear head V that corrects the first two on the client's images (`residual_head`), where the
   mixture is asked about each image with the weights that all others give.

Weights, prior and head never leave the client, and the prompt that does never reads them: there is
no gate that its gradient passes through. Why, and what was tried: docs/methods/evidence-mixture.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import Bounds, NotNegative, Positive
from pfedmoap.contract.batch_size import encoded_at_once
from pfedmoap.contract.folding import Folded
from pfedmoap.contract.predicting import ManyModels, PredictionTask
from pfedmoap.contract.server_rows import divide
from pfedmoap.contract.stacking import TrainedClient, stack
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask, Prediction
from pfedmoap.methods.averaged_prompt import AveragedPrompt
from pfedmoap.methods.evidence_mixture.evidence import (
    choose_pseudo_count,
    class_counts,
    class_prior,
    likelihoods,
    log_probabilities,
    mix,
    weigh,
    weigh_without_each,
    with_own,
)
from pfedmoap.methods.evidence_mixture.leaving import WEIGHTS, without_expert_and_weight
from pfedmoap.methods.evidence_mixture.residual_head import fit_head
from pfedmoap.methods.pfedmoap.served_experts import (
    EXPERTS,
    encode_experts,
    expert_owners,
    held_experts,
    owners_held,
    pack_experts,
)
from pfedmoap.methods.pfedmoap.serving import Selection, Serving
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.encoding import FeaturesOfRound
from pfedmoap.prompts.tuning import PromptProblem, tune
from pfedmoap.server.aggregation import combine
from pfedmoap.server.expert_pool import ExpertPool
from pfedmoap.server.pool_arrays import CLIENTS, OF_CLIENTS, prompt_of
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

PRIOR, HEAD = "class_prior", "residual_head"


@dataclass(frozen=True)
class EvidenceMixture(AveragedPrompt):
    """The method with its hyperparameters.

    Attributes:
        experts: Other clients' prompts k served to a client; with 0, and in a client's first round,
            there is its own prompt alone.
        selection: ``nearest`` prompts by l2, or ``random`` ones (a control).
        sharpness: How fast an expert's weight falls with its loss, summed over the client's
            images; 0 weighs evenly.
        own_weight: Weight of the own prompt in the mixture against one expert's on average.
        pseudo_count: Images of each class that are added to those that a client has, for its class
            prior; the larger, the more even. None lets each client choose by its own images.
        head_spread: How far the residual head may go, in units of logits; 0 for none.
    """

    experts: Annotated[int, Bounds(ge=0, le=100_000)] = 9
    selection: Selection = "nearest"
    sharpness: NotNegative = 0.3
    own_weight: NotNegative = 1.0
    pseudo_count: Positive | None = None
    head_spread: NotNegative = 4.0

    def privacy_gap(self, mode: Mode) -> str | None:
        """See `HasPrivacyAnalysis`: the prompt's steps read nothing of what stays at home."""
        if mode == "joint":
            return (
                "weights of experts, class prior and head are fitted without noise and stay at "
                "home, which is what mode decoupled promises. Use mode decoupled"
            )
        if mode == "central":
            return "the pool serves prompts as they are; use `--privacy release`, or promptfl"
        return None

    def class_bond(self) -> str | None:
        """See `IsBoundToClasses`: prior and head have one row for each class."""
        return "a client's class prior and head know the classes that it was trained on, no others"

    def plan(self, state: Arrays, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the averaged prompt, and k experts to clients that have a pool entry."""
        pool, common = self._pool(state), state["context"]
        experts = self._serving.experts(pool, cohort, round)
        downloads = []
        for client in sorted(cohort):
            arrays, served = {"context": common}, None
            if client in experts:
                arrays |= pack_experts(experts[client], common)
                served = tuple(expert.client for expert in experts[client])
            downloads.append(Download(round, client, arrays, served))
        return downloads

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Tune the own prompts; then fit what is classified with, at home and without noise."""

        def begin(batch: list[ClientTask]) -> tuple[PromptProblem, Arrays]:
            known = [task.local or task.download.arrays for task in batch]
            start = stack([{"context": own["context"]} for own in known], self._device)
            return self.problem(start), start

        tuned = tune(tasks, self.setting, privatizer, begin)
        experts = encode_experts(tasks, encode := self._features.of_round(self.encoder))
        own = encode([client.params["context"] for client in tuned])
        return [
            self._result(client, torch.stack([text, *experts[client.task.download.client]]))
            for client, text in zip(tuned, own, strict=True)
        ]

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """Average the prompts for newcomers, and put each into the pool."""
        prompts = {update.client: update.arrays["context"] for update in updates}
        common = {"context": state["context"]}
        averaged = combine(common, updates, self.weighting, self.setting.server)
        return {**averaged, **self._pool(state).put(prompts).to_arrays()}

    divided = staticmethod(partial(divide, owners=CLIENTS, names=OF_CLIENTS))  # see `KeepsRows`

    def starts(self, state: Arrays, client: ClientId) -> Arrays:
        """See `StartsElsewhere`: from the client's last prompt, which the pool has."""
        own = prompt_of(state, client)
        return {} if own is None else {"context": own}

    def screened(self, state: Arrays) -> Mapping[ClientId, str]:
        """See `ServesExperts`."""
        return self._pool(state).screened(self.setting.pool).reasons

    def searched(self, state: Arrays) -> Mapping[str, float]:
        """See `ServesExperts`."""
        return self._pool(state).searched

    def aggregation_gap(self) -> None:
        """See `AveragesByRule`: the prompt that newcomers get is averaged; experts are served."""

    def forget(self, state: Arrays, client: ClientId) -> Arrays:
        """Take a client's prompt out of the pool; see `CanForget`."""
        pool = self._pool(state).without(client)
        return {"context": state["context"], **pool.to_arrays()}

    forget_local = staticmethod(without_expert_and_weight)

    @torch.no_grad()
    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with all three parts; a newcomer uses the averaged prompt."""
        if local is None:
            return self.classify(download.arrays, features)
        image, own = features["image"].to(self._device), local["context"][None]
        held = held_experts(local)
        text = self.encoder(torch.cat([own, held.get(EXPERTS, own[:0])]).to(self._device))
        fitted = {name: local[name].to(self._device) for name in (WEIGHTS, PRIOR, HEAD)}
        logits, attention = self._mixed(fitted, image, text)
        return Prediction(logits, attention, expert_owners(held)) if held else Prediction(logits)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: each prompt is encoded once, clients are side by side."""
        encode, most = self._features.with_last(self.encoder), encoded_at_once(self.setting)

        def prompts(task: PredictionTask) -> tuple[Tensor, ...]:
            known = task.download.arrays if task.local is None else task.local
            return (known["context"], *(task.local or {}).get(EXPERTS, ()))

        def answer(
            batch: Sequence[PredictionTask], features: Arrays
        ) -> tuple[Tensor, Tensor | None]:
            image = features["image"]
            text = torch.stack(encode([prompt for task in batch for prompt in prompts(task)]))
            text = text.unflatten(0, (len(batch), -1))  # (K, E, C, D)
            held = [task.local for task in batch if task.local is not None]
            if not held:
                return cosine_logits(image, text[:, 0], self.setting.backbone.logit_scale), None
            fitted = [{name: own[name] for name in (WEIGHTS, PRIOR, HEAD)} for own in held]
            logits, attention = vmap(self._mixed)(stack(fitted, self._device), image, text)
            return logits, attention if held_experts(held[0]) else None

        return ManyModels(
            kinds=("image",),
            device=self._device,
            classify=answer,
            form=lambda task: (
                task.local is None,
                *held_experts(task.local or {}),
                len(prompts(task)),
            ),
            at_most=lambda _: most,
            experts=owners_held,
        ).predict(tasks)

    @torch.no_grad()
    def fold(self, download: Download, local: Arrays | None) -> Folded:
        """See `CanFold`: class features of all prompts, and what is fitted beside them."""
        if local is None:
            return super().fold(download, None)
        held, own = held_experts(local), local["context"][None]
        text = self.encoder(torch.cat([own, held.get(EXPERTS, own[:0])]).to(self._device))
        fitted = {name: local[name] for name in (WEIGHTS, PRIOR, HEAD)}
        options = {"scale": self.setting.backbone.logit_scale, "gate": bool(held)}
        return Folded("evidence", options, {"text": text, **fitted}, expert_owners(held))

    def release_features(self) -> None:
        """See `KeepsFeatures`."""
        self._features.release()

    def plan_to_predict(
        self, state: Arrays, clients: Sequence[ClientId], round: int, new: frozenset[ClientId]
    ) -> list[Download]:
        """See `CanPlanForNewcomers`: the others classify with what they hold."""
        return [Download(round, each, {"context": state["context"]}) for each in sorted(clients)]

    def _mixed(self, own: Arrays, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """All three parts for images (B, D) and class features (E, C, D); (B, C) and (B, C, E)."""
        known = log_probabilities(image, text, self.setting.backbone.logit_scale)
        logits = mix(known, own[WEIGHTS]) + own[PRIOR] + image @ own[HEAD].T
        return logits, own[WEIGHTS].expand(*logits.shape, -1)

    @torch.no_grad()
    def _fit(self, data: ClientData, text: Tensor) -> Mapping[str, Tensor]:
        """Fit weights, prior and head on a client's images, for class features (1 + k, C, D)."""
        views = data.features["image"].to(self._device)  # (n, V, D)
        image, labels = F.normalize(views.mean(1), dim=-1), data.labels.to(self._device)
        known = log_probabilities(image, text, self.setting.backbone.logit_scale)
        likelihood = likelihoods(known, labels)[1:]
        weights = with_own(weigh(likelihood, self.sharpness), self.own_weight)
        others = with_own(weigh_without_each(likelihood, self.sharpness), self.own_weight)
        unseen = mix(known, others)
        count = self.pseudo_count or choose_pseudo_count(unseen, labels)
        prior = class_prior(class_counts(labels, unseen.shape[1]), count)
        head = fit_head(image, labels, unseen + prior, self.head_spread)
        return {WEIGHTS: weights, PRIOR: prior, HEAD: head}

    def _result(self, client: TrainedClient, text: Tensor) -> ClientResult:
        """Upload the prompt; keep it, the experts, and what is fitted."""
        fitted = self._fit(client.task.data, text)
        at_home = {name: value.cpu() for name, value in fitted.items()}
        experts = held_experts(client.task.download.arrays)
        return client.result(client.params, keeps={**client.params, **experts, **at_home})

    @cached_property
    def _features(self) -> FeaturesOfRound:
        return FeaturesOfRound(self.setting)

    def _pool(self, state: Arrays) -> ExpertPool:
        return ExpertPool.from_arrays(state, self.setting.pool)

    @property
    def _serving(self) -> Serving:
        return Serving(self.experts, self.selection, self.setting.seed, self.setting.pool)

    @property
    def _device(self) -> torch.device:
        return self.setting.backbone.device


METHOD = EvidenceMixture
