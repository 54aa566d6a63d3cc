"""FedSP's protected causal language model, and the auxiliary one that clients hold."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.errors import ConfigError
from pfedmoap.models.language.decoder import Prefix
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.language.scoring import (
    ANSWER,
    KINDS,
    TOKENS,
    AnswerModel,
    Rows,
    answer_losses,
    choice_logits,
    right_choices,
)
from pfedmoap.models.protected.interface import Protection
from pfedmoap.models.protected.language_skeleton import Skeleton, make_skeleton
from pfedmoap.models.protected.towers import Reduction, reduction
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import Arrays

PART = "text"  # the one part of the prefix


@dataclass(frozen=True)
class AuxiliaryLM:
    """The form of the clients' language model.

    The clients of a batch are run one after another: each has weights of its own.

    Attributes:
        skeleton: The model without weights.
    """

    skeleton: Skeleton

    @property
    def features(self) -> tuple[str, ...]:
        """Tokens of the choices, and which of them are the answers'."""
        return KINDS

    @property
    def step_gap(self) -> str | None:
        """Sequences are cut by what they hold, which per-example gradients cannot follow."""
        return (
            "its clients run a language model, whose sequences are cut to the longest of a batch, "
            "so that no per-example gradient can be formed; use `--privacy release`"
        )

    @property
    def class_bond(self) -> str | None:
        """It reads any choices."""
        return None

    def precompute(self, weights: Arrays, features: Arrays) -> Arrays:
        """Nothing: every token sees the prefix in the first layer already."""
        del weights
        return features

    def represent(self, weights: Arrays, prefix: Arrays) -> Arrays:
        """Return nothing: questions share nothing."""
        del weights, prefix
        return {}

    def logits(self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Log-likelihood of every choice, (K, B, C); see `choice_logits`."""
        del shared
        return torch.stack(
            [
                choice_logits(self._scorer(weights, prefix, k), _of_client(features, k))
                for k in range(len(prefix[PART]))
            ]
        )

    def losses(
        self, weights: Arrays, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor
    ) -> Tensor:
        """Cross-entropy of the right choice's tokens, (K, B); see `answer_losses`."""
        del shared
        return torch.stack(
            [
                answer_losses(self._scorer(weights, prefix, k), _of_client(features, k), labels[k])
                for k in range(len(prefix[PART]))
            ]
        )

    def _scorer(self, weights: Arrays, prefix: Arrays, client: int) -> "partial[Tensor]":
        own = {name: value[client] for name, value in weights.items()}
        return partial(self._score, own, prefix[PART][client])

    def _score(self, weights: Arrays, prefix: Tensor, rows: Rows) -> Tensor:
        return self.skeleton(weights, rows, prefix, score=True)


@dataclass(frozen=True)
class ProtectedLM:
    """A whole causal language model on the server.

    As in the paper, the auxiliary has the embedding, the final norm and the head of the whole
    model: all of them are disclosed to clients, but for what distillation changes. The head is
    disclosed as it is where it is not the embedding, for the hidden states that are compared lie
    before it. Layers are disclosed only as distillation leaves them.

    Attributes:
        backbone: The model.
        options: Form of the auxiliary and length of the prefix; towers are for CLIPs.
        seed: For what distillation samples.
    """

    backbone: FrozenLM
    options: Protection
    seed: int

    @property
    def features(self) -> tuple[str, ...]:
        """Tokens of the choices, and which of them are the answers'."""
        return KINDS

    @cached_property
    def auxiliary(self) -> AuxiliaryLM:
        """The form of the clients' language model."""
        backbone = self.backbone
        return AuxiliaryLM(make_skeleton(backbone.model, backbone.decoder, self._cut))

    @property
    def prefix_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the prefix: a row for each layer of the auxiliary, (layers, 2, p, W_kv)."""
        layers, width = len(self._cut.prefixed), self.backbone.decoder.width
        return {PART: (layers, 2, self.options.prefix_length, width)}

    def first_weights(self) -> Arrays:
        """Cut the auxiliary's float32 weights out of the model, by the model's own names."""
        return self.auxiliary.skeleton.weights_of(self.backbone.model)

    def is_hidden(self, name: str) -> bool:
        """Return whether a weight is a layer's; the paper discloses embedding, final norm and head.

        A head at random would stay so: the hidden states that are compared lie before it.
        """
        return name.startswith(f"{self.backbone.decoder.layers}.")

    def distillation_loss(self, weights: Arrays, features: Arrays, step: int) -> Tensor:
        """Squared distance of the last hidden states, over all tokens that are no padding.

        Each question is read with one of its choices, drawn anew for each step: labels are not
        used.

        Raises:
            ConfigError: There are no questions to read.
        """
        if not features:
            raise ConfigError(
                "a language model is distilled on questions of the server's own, and it has none: "
                "give it some with --sampling.server_shots 4"
            )
        device = self.backbone.device
        features = {kind: values.to(device) for kind, values in features.items()}
        number = features[ANSWER].any(-1).sum(-1)  # (B,)
        draw = torch.rand(len(number), generator=generator(self.seed, "choices", step))
        rows = right_choices(features, (draw.to(device) * number).long())
        own = {name: value[0].to(device) for name, value in weights.items()}
        with torch.no_grad():
            target = self._model(rows, None, score=False).float()
        found = self.auxiliary.skeleton(own, rows, None, score=False)
        return F.mse_loss(found[rows.valid], target[rows.valid])

    def represent(self, prefix: Arrays) -> Arrays:
        """Return nothing: questions share nothing."""
        del prefix
        return {}

    def logits(self, prefix: Arrays, shared: Arrays, features: Arrays) -> Tensor:
        """Log-likelihood of every choice in the whole model, (K, B, C); see `choice_logits`."""
        del shared
        return torch.stack(
            [
                choice_logits(partial(self._score, own), _of_client(features, k))
                for k, own in enumerate(prefix[PART])
            ]
        )

    def losses(self, prefix: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """Cross-entropy of the right choice's tokens in the whole model, (K, B)."""
        del shared
        return torch.stack(
            [
                answer_losses(partial(self._score, own), _of_client(features, k), labels[k])
                for k, own in enumerate(prefix[PART])
            ]
        )

    def _score(self, prefix: Tensor, rows: Rows) -> Tensor:
        found: Tensor = self._model(rows, Prefix(prefix, self._cut.prefixed), score=True)
        return found

    @cached_property
    def _cut(self) -> Reduction:
        return reduction(self.backbone.decoder.depth, self.options.shape, self.options.blocks)

    @cached_property
    def _model(self) -> AnswerModel:
        return AnswerModel(self.backbone.model, self.backbone.decoder)


def _of_client(features: Arrays, client: int) -> Arrays:
    """One client's features (B, C, T), of (K, B, C, T) or of what all clients share."""
    return {
        kind: features[kind] if features[kind].dim() == 3 else features[kind][client]
        for kind in (TOKENS, ANSWER)
    }
