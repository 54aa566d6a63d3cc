"""The generative model of clients' prompt sets (PFPT, arXiv 2502.19752, section 3).

There are n candidates ``phi_i``. A client uses a candidate with probability
``p_i = sigmoid(g_w(phi_i))`` and has then one prompt near it, ``w ~ Normal(phi_i, diag(alpha_i))``
with ``alpha_i = alpha_gamma(phi_i)``. An assignment gives each of a client's prompts a candidate of
its own.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from pfedmoap.seeding import generator

Spread = Literal["variance", "deviation"]
Usage = Literal["log_odds", "incumbent"]
Objective = Literal["whole", "released"]


class PromptModel(nn.Module):
    """Candidates with the two networks that say how they are used and how far prompts scatter.

    Args:
        candidates: Where the candidates start, (n, d) float64.
        spread: Whether the scatter network's sigmoid is a ``variance``, as in the paper, or a
            standard ``deviation``, as in the released code.
        usage: What of p_i enters a matching: the ``log_odds`` of the paper, or the released code's
            form, ``log p_i`` for the candidates that the client has now and ``log(1 - p_i)`` for
            all others, which favours the ``incumbent``.
        seed: Seed of the networks' initial weights.
        hidden: Width of both networks.
    """

    def __init__(
        self,
        candidates: Tensor,
        spread: Spread = "variance",
        usage: Usage = "log_odds",
        seed: int = 0,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.spread, self.usage = spread, usage
        self.candidates = nn.Parameter(candidates.clone())
        stream = generator(seed, "prompt model")
        width = candidates.shape[-1]
        self.scatter = _network(width, hidden, width, stream)
        self.popularity = _network(width, hidden, 1, stream)

    def log_odds(self) -> Tensor:
        """``log(p_i / (1 - p_i))``, (n,)."""
        odds: Tensor = self.popularity(self.candidates)
        return odds[:, 0]

    def log_density(self, prompts: Tensor) -> Tensor:
        """``log Normal(w_k; phi_i, alpha_i)`` of every prompt under every candidate.

        Args:
            prompts: (u, d).

        Returns:
            (u, n).
        """
        log_spread, precision = self._scatter()  # (n, d)
        weighted = precision * self.candidates
        squared = (  # sum_d (w - phi)^2 / alpha, multiplied out
            prompts.square() @ precision.mT
            - 2 * prompts @ weighted.mT
            + (weighted * self.candidates).sum(-1)
        )
        return -0.5 * (squared + log_spread.sum(-1) + prompts.shape[-1] * _LOG_2PI)

    def objective(self, sets: Sequence[Tensor], assignment: Sequence[Tensor]) -> Tensor:
        """The paper's objective, to be maximised.

        ``sum_t sum_k [log Normal(w_tk; phi_i, alpha_i) + log(p_i / (1 - p_i))]
        + m sum_i log(1 - p_i)`` with i the candidate of prompt k of client t.

        Args:
            sets: The m clients' prompts, each (u_t, d).
            assignment: Their candidates, each (u_t,).

        Returns:
            A scalar.
        """
        chosen = torch.cat(list(assignment))
        log_spread, precision = (value[chosen] for value in self._scatter())
        off = (torch.cat(list(sets)) - self.candidates[chosen]).square() * precision
        density = -0.5 * (off + log_spread + _LOG_2PI).sum()
        odds = self.log_odds()
        return density + odds[chosen].sum() + len(sets) * F.logsigmoid(-odds).sum()

    def released_objective(self, prompts: Tensor, assignment: Tensor) -> Tensor:
        """What a gradient step of the released code maximises: one client's terms alone.

        ``sum_k [log Normal(w_k; phi_i, alpha_i) + u log p_i]`` with i the candidate of prompt k.
        The code adds a candidate's log p_i once for each of the client's u prompts, and has no term
        for the candidates that the client does not use.

        Args:
            prompts: The client's prompts, (u, d).
            assignment: Their candidates, (u,).

        Returns:
            A scalar.
        """
        density = self.log_density(prompts).gather(1, assignment[:, None]).sum()
        return density + len(prompts) * F.logsigmoid(self.log_odds()[assignment]).sum()

    @torch.no_grad()
    def match(self, prompts: Tensor, current: Tensor, usage_weight: float = 1.0) -> Tensor:
        """Give each prompt of one client a candidate of its own (Hungarian method).

        Args:
            prompts: (u, d) with u at most n.
            current: Their present candidates, (u,).
            usage_weight: Weight of the popularity term; u in the released code.

        Returns:
            The best candidates, (u,); with ``log_odds`` and a weight of 1, no other assignment has
            a larger objective.
        """
        odds = self.log_odds()
        score = self.log_density(prompts)
        if self.usage == "log_odds":
            score = score + usage_weight * odds
        else:
            held = torch.zeros_like(odds, dtype=torch.bool)
            held[current] = True
            usage = torch.where(held, F.logsigmoid(odds), F.logsigmoid(-odds))
            score = score + usage_weight * usage
        return best_assignment(score)

    def _scatter(self) -> tuple[Tensor, Tensor]:
        """``log alpha`` and ``1 / alpha`` of each candidate, both (n, d)."""
        raw = self.scatter(self.candidates)
        power = 1 if self.spread == "variance" else 2
        log_spread = power * F.logsigmoid(raw)
        return log_spread, (-log_spread).exp()


def best_assignment(score: Tensor) -> Tensor:
    """Give every row a column of its own with the largest total score.

    Args:
        score: (u, n) with u at most n.

    Returns:
        Columns, (u,) int64.
    """
    _, columns = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).long()


def _network(width: int, hidden: int, out: int, stream: torch.Generator) -> nn.Sequential:
    layers = []
    for inputs, outputs in ((width, hidden), (hidden, out)):
        linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=stream)
        layers.append(linear)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


_LOG_2PI = 1.8378770664093453
