"""Fed-BBPT: prompts learned through a black-box model (arXiv 2310.03123).

Full title: "Efficient Federated Prompt Tuning for Black-box Large Pre-trained Models", by Z. Lin,
Y. Sun, Y. Shi, X. Wang, L. Huang, L. Shen and D. Tao. Each client trains a small prompt generator
with zeroth-order steps against the model's API; the server averages the generators (FedAvg, arXiv
1602.05629). The image instance is BlackVIP's (arXiv 2303.14773): generator, SPSA-GC and defaults.

The paper does not state local steps, clients and step sizes, and has no released code. Our choices:

- The gain index k counts the federation's steps, ``(round - 1) steps + s``, and never falls; every
  client takes the same public number of steps in a round. The velocity starts at zero in each one.
- No running statistics anywhere; see `PromptGenerator`. Its last layer starts at zero, so that
  training starts from zero-shot classification.
- The client's frozen encoder is a small random one (`RandomEncoder`), not an MAE ViT-B.
- ``variant="text"`` learns the context vectors of a text prompt in the same way; ``"words"`` learns
  which words to say by policy gradient, as the paper does for language (`PolicyGradient`), for
  models that take nothing but text. Its Bayesian search for instructions is not here.
- Labels stay with the client: it queries logits and computes the loss itself.

Of the training options only ``training.batch_size`` is used; others belong to gradient descent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from torch import Tensor

from pfedmoap.client.privatizer import Mode, Privatizer
from pfedmoap.config.bounds import (
    AnyNumber,
    Bounds,
    Count,
    Decay,
    NotNegative,
    Positive,
    check_options,
)
from pfedmoap.contract.predicting import PredictionTask, sent_arrays, with_one_model
from pfedmoap.contract.tasks import ArraySpec, ClientResult, ClientTask, Prediction, Setting
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fed_bbpt.budget import QueryBudget
from pfedmoap.methods.fed_bbpt.no_model import model_is_elsewhere
from pfedmoap.methods.fed_bbpt.prompt_generator import Normalisation
from pfedmoap.methods.fed_bbpt.prompting import ImagePrompting, Prompting, TextPrompting
from pfedmoap.methods.fed_bbpt.spsa import Gains
from pfedmoap.methods.fed_bbpt.training import (
    Descent,
    Estimator,
    WhiteBox,
    ZerothOrder,
    plan_batches,
    run_steps,
    warn_if_cut_short,
)
from pfedmoap.methods.fed_bbpt.words import FIRST_WORDS, VOCABULARY, PolicyGradient, WordPrompting
from pfedmoap.models.blackbox.http_client import HTTPModel, split_address
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.interface import BlackBoxModel
from pfedmoap.models.blackbox.white_box import WhiteBoxModel
from pfedmoap.prompts.initial import check_context
from pfedmoap.prompts.tuning import broadcast, check_templates
from pfedmoap.seeding import generator
from pfedmoap.server.aggregation import Weighting, combine
from pfedmoap.serving.place import read_token
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update


@dataclass(frozen=True)
class FedBBPT:
    """The method with its hyperparameters; defaults of the optimiser are BlackVIP's.

    Attributes:
        setting: Backbone, classes, training options and seed.
        variant: ``image`` adds a generated prompt; ``text`` learns a context, ``words`` its words.
        endpoint: Address of the model, e.g. ``http://127.0.0.1:8080``; none asks the backbone in
            this process, with gradients off.
        token_file: File that holds the token which the endpoint asks for; the run records the
            file's name and never the token.
        timeout_seconds: Timeout of each request to the endpoint, at most a day.
        gradient: ``spsa`` estimates it from answers; ``white-box`` is an upper bound that sees
            the backbone's weights, all else equal.
        steps: Steps of each client in a round, public; a budget can cut them short.
        query_budget: Images that one client may have classified in all of its training; none
            for no limit. Requests that are repeated after a failure count as well. A step counts
            as a full batch, so that participation reveals nothing about a client's data.
        draws: Perturbations in a step (their q); it costs ``2 draws batch_size`` queries. For
            words: prompts in a step, at half the cost.
        momentum: Of the look-ahead step (beta).
        step_gain: a in ``a_k = a / (k + o)^alpha``.
        step_offset: o.
        step_decay: alpha.
        probe_gain: c in ``c_k = c / k^gamma``.
        probe_decay: gamma.
        strength: Weight of the prompt in the image (eps_p).
        generator_width: Channels of the generator; 32 is the paper's.
        normalisation: Of the generator: ``group``, or ``frozen-batch`` with constant statistics.
        context_length: Context vectors of the text variant.
        context_init: Words to start from; none draws the context of ``text`` at random.
        vocabulary: Words to choose from, public.
        images_per_call: Largest number of images in one request.
        weighting: ``examples`` weights clients by their training sets, ``uniform`` does not.
    """

    setting: Setting
    variant: Literal["image", "text", "words"] = "image"
    endpoint: str | None = None
    token_file: str | None = None
    timeout_seconds: Annotated[float, Bounds(gt=0, le=86_400)] = 60.0
    gradient: Literal["spsa", "white-box"] = "spsa"
    steps: Count = 3
    query_budget: Annotated[int, Bounds(ge=0)] | None = None
    draws: Count = 5
    momentum: Decay = 0.9
    step_gain: Positive = 0.01
    step_offset: NotNegative = 1.0
    step_decay: NotNegative = 0.4
    probe_gain: Positive = 0.01
    probe_decay: NotNegative = 0.1
    strength: AnyNumber = 1.0
    generator_width: Annotated[int, Bounds(ge=1, le=65_536)] = 32
    normalisation: Normalisation = "group"
    context_length: Annotated[int, Bounds(ge=1, le=1024)] = 4
    context_init: str | None = None
    vocabulary: tuple[str, ...] = VOCABULARY
    images_per_call: Count = 64
    weighting: Weighting = "examples"

    def __post_init__(self) -> None:
        check_options(self, "method")
        if self.endpoint is not None:
            split_address(self.endpoint)  # refuse a wrong address before anything is loaded
            _ = self._token
        if self.gradient == "white-box" and self.endpoint is not None:
            raise ConfigError("an endpoint gives no gradients: drop it, or use gradient spsa")
        if self.gradient == "white-box" and self.variant == "words":
            raise ConfigError("a choice of words has no gradient: use another variant")
        if self.variant == "text":
            check_context(self.setting, self.features, self.context_length, self.context_init)
        else:
            said = self.prompting if self.variant == "words" else None
            check_templates(self.setting, said.longest if isinstance(said, WordPrompting) else None)

    @property
    def trains(self) -> bool:
        """Learns in rounds."""
        return True

    @property
    def features(self) -> tuple[str, ...]:
        """The preprocessed images themselves: clients have no CLIP encoder."""
        return ("pixels",)

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The generator, or the context, as one flat vector."""
        return {self.prompting.name: ArraySpec((self.prompting.parameters,))}

    def privacy_gap(self, mode: Mode) -> str | None:
        """Noise on the upload is sound whatever the client computed; nothing else is.

        Noise on a client's upload protects it from the aggregating server, noise on the average
        from other clients. The model's owner sees the images.
        """
        if mode in ("release", "central"):
            return None
        return (
            "a zeroth-order step sees its batch through differences of mean losses and has no "
            "per-example gradient to clip; use `--privacy release`, which noises the upload, and "
            "remember that the images go to the model's owner in any case"
        )

    def init(self) -> Tensor:
        """Start from one vector of parameters (G,)."""
        return self.prompting.initial()

    def plan(self, state: Tensor, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Send the parameters."""
        return broadcast({self.prompting.name: state}, cohort, round)

    def declines(self, local: Arrays | None) -> str | None:
        """Decline if the budget does not suffice for one more step on a full batch."""
        return self._budget.refusal(local, self.price)

    def impersonal(self) -> bool:
        """Return true: every client predicts with the server's parameters."""
        return True

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Take zeroth-order steps from the server's parameters; keep only the query count."""
        ordered = sorted(tasks, key=lambda task: task.download.client)
        return [self._train(task, privatizer) for task in ordered]

    def aggregate(self, state: Tensor, updates: Sequence[Update]) -> Tensor:
        """Average the parameters."""
        name = self.prompting.name
        return combine({name: state}, updates, self.weighting, self.setting.server)[name]

    def aggregation_gap(self) -> str | None:
        """See `AveragesByRule`."""
        return None

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Query with the server's parameters, the same for every client; one query an image."""
        return self.predict_global(download.arrays[self.prompting.name], features)

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """See `CanPredictTogether`: all images are one model's."""
        return with_one_model(tasks, sent_arrays, self.predict, self.features)

    @torch.no_grad()
    def predict_global(self, state: Tensor, features: Arrays) -> Prediction:
        """Query with the server's parameters."""
        device = self.setting.backbone.device
        state, parts = state.to(device), features["pixels"].split(self.images_per_call)
        answers = [self.model.ask(self.prompting.about(part.to(device))(state)) for part in parts]
        return Prediction(torch.cat([answer.logits for answer in answers]))

    fold = staticmethod(model_is_elsewhere)  # see `CanFold`

    def to_arrays(self, state: Tensor) -> Arrays:
        """The parameters."""
        return {self.prompting.name: state}

    def from_arrays(self, arrays: Arrays) -> Tensor:
        """Inverse of `to_arrays`."""
        return arrays[self.prompting.name]

    def _train(self, task: ClientTask, privatizer: Privatizer) -> ClientResult:
        client, round = task.download.client, task.download.round
        steps = self._budget.steps(task.local, self.price, self.steps)
        first = (round - 1) * self.steps + 1
        trained, usage = run_steps(
            Descent(self.prompting, self.estimator, self._gains, self.momentum),
            task,
            plan_batches(task, self.setting, privatizer, self.steps),
            range(first, first + steps),
            self._budget.left(task.local),
            generator(self.setting.seed, "client", client, "round", round, "perturbations"),
            self.setting.backbone.device,
        )
        warn_if_cut_short(task.download, steps, self.steps)
        bill = self._budget.bill(task.local, usage.queries, steps * self.price)
        costs = {"steps": trained.steps, **asdict(usage)}
        return trained.result(trained.params, keeps=bill, costs=costs, lasting=bill)

    @property
    def price(self) -> int:
        """Queries of a step on a full batch, which is public."""
        return self.estimator.queries(self.setting.training.batch_size)

    @property
    def _budget(self) -> QueryBudget:
        return QueryBudget(self.query_budget)

    @cached_property
    def prompting(self) -> Prompting:
        """The learned parameters and their use in a query, by `variant`."""
        setting = self.setting
        if self.variant == "text":
            return TextPrompting.make(setting, self.context_length, self.context_init)
        if self.variant == "words":
            return WordPrompting(setting.class_names, self.vocabulary, self._first_words)
        return ImagePrompting.make(setting, self.generator_width, self.normalisation, self.strength)

    @property
    def _first_words(self) -> tuple[str, ...]:
        return tuple((self.context_init or FIRST_WORDS).split())

    @cached_property
    def _gains(self) -> Gains:
        return Gains(
            self.step_gain, self.step_offset, self.step_decay, self.probe_gain, self.probe_decay
        )

    @cached_property
    def model(self) -> BlackBoxModel:
        """The black-box model: the endpoint, or the backbone in this process."""
        if self.endpoint is not None:
            return HTTPModel(self.endpoint, token=self._token, timeout_seconds=self.timeout_seconds)
        return InProcessModel(self.setting.backbone)

    @property
    def _token(self) -> str | None:
        return None if self.token_file is None else read_token(self.token_file)

    @cached_property
    def estimator(self) -> Estimator:
        """The gradient estimator, by `gradient` and `variant`."""
        if self.gradient == "white-box":
            return WhiteBox(WhiteBoxModel(self.setting.backbone))
        if self.variant == "words":
            positions = len(self._first_words)
            return PolicyGradient(self.model, positions, self.draws, self.images_per_call)
        return ZerothOrder(self.model, self._gains, self.draws, self.images_per_call)


METHOD = FedBBPT
