"""Scores and losses of a language model on multiple-choice questions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.models.language.decoder import Decoder, Prefix, hidden_states, output_head
from pfedmoap.wire.messages import Arrays

TOKENS, ANSWER = "choice_tokens", "choice_answer"
KINDS = (TOKENS, ANSWER)
"""Token ids of the prompt with each choice, (n, V, C, T) int64, and which of them are the choice's
own, (n, V, C, T) bool."""

ABSENT = -1e9
"""Logit of a choice that a question does not have: no probability, and yet a number, so that no
difference or product of logits is NaN."""

SEQUENCES_AT_ONCE = 64  # in evaluation, where there may be thousands


@dataclass(frozen=True)
class Rows:
    """N sequences, padded behind their tokens.

    Attributes:
        tokens: Token ids, (N, T) int64.
        answer: Which tokens are the answer's; they are the last ones, and never the first, (N, T).
    """

    tokens: Tensor
    answer: Tensor

    @property
    def valid(self) -> Tensor:
        """Which tokens are no padding, (N, T); a sequence without an answer has its first alone."""
        valid = self.answer.flip(1).cumsum(1).flip(1) > 0
        valid[:, :1] = True
        return valid

    def __getitem__(self, which: Tensor) -> "Rows":
        """Some of the sequences, cut behind the longest of them."""
        tokens, answer = self.tokens[which], self.answer[which]
        used = answer.any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return Rows(tokens[:, :length], answer[:, :length])


Scorer = Callable[[Rows], Tensor]
"""Log-likelihood of each sequence's answer, summed over its tokens: N `Rows` to (N,)."""


class AnswerModel(nn.Module):
    """A language model that scores answers, as one module that can be called with other weights.

    Args:
        model: The causal language model.
        decoder: Its places.
    """

    def __init__(self, model: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.model = model
        self.decoder = decoder

    def forward(self, rows: Rows, prefix: Prefix | None, *, score: bool) -> Tensor:
        """Score the answers, or give the last hidden states.

        Only the positions that predict a token of the answer go through the head.

        Args:
            rows: N sequences.
            prefix: What stands before them.
            score: Whether to score.

        Returns:
            Log-likelihood of each answer, (N,) float32, or hidden states (N, T, W).
        """
        hidden = hidden_states(self.model, self.decoder, rows.tokens, rows.valid, prefix)
        if not score:
            return hidden
        at = rows.answer[:, 1:]  # token t is predicted at t - 1
        logits = output_head(self.model)(hidden[:, :-1][at]).float()  # (answers' tokens, V)
        each = -F.cross_entropy(logits, rows.tokens[:, 1:][at], reduction="none")
        return each.new_zeros(at.shape).masked_scatter(at, each).sum(1)


def choice_logits(score: Scorer, features: Arrays) -> Tensor:
    """Score every choice of some questions, as lm-eval-harness does for ``acc``.

    Args:
        score: Scores sequences.
        features: By kind, (B, C, T).

    Returns:
        Sum of the log-probabilities of each choice's tokens, (B, C) float32; `ABSENT` for choices
        that are padding.
    """
    there = features[ANSWER].any(-1)  # (B, C)
    rows = Rows(features[TOKENS][there], features[ANSWER][there])
    size = len(rows.tokens) if torch.is_grad_enabled() else SEQUENCES_AT_ONCE
    # Sequences of similar length are batched: each batch is padded to its own longest.
    order = rows.valid.sum(1).argsort(stable=True)
    parts = [score(rows[part]) for part in order.split(max(1, size))]
    found = torch.cat(parts)[order.argsort()]
    return found.new_full(there.shape, ABSENT).masked_scatter(there, found)


def answer_losses(score: Scorer, features: Arrays, labels: Tensor) -> Tensor:
    """Next-token cross-entropy of the right choice, as a mean over its tokens.

    Args:
        score: Scores sequences.
        features: By kind, (B, C, T).
        labels: Right choices, (B,).

    Returns:
        (B,); 0 for an example that is padding.
    """
    rows = right_choices(features, labels)
    return -score(rows) / rows.answer.sum(1).clamp(min=1)


def right_choices(features: Arrays, labels: Tensor) -> Rows:
    """Take one choice of each of B questions, (B,), cut behind the longest."""
    which = torch.arange(len(labels), device=labels.device)
    return Rows(features[TOKENS][which, labels], features[ANSWER][which, labels])[which]
