"""Merging clients' prompt sets without a common order (PFPT, arXiv 2502.19752, Algorithm 1).

Alternates gradient steps on `PromptModel` with matchings, client by client, and drops the
candidates without an assigned prompt. See `merge` for where we depart from the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.config.server import ServerOptions
from pfedmoap.errors import ConfigError
from pfedmoap.methods.pfpt.generative_model import (
    Objective,
    PromptModel,
    Spread,
    Usage,
    best_assignment,
)
from pfedmoap.seeding import generator
from pfedmoap.server.robust_means import coordinate_median, declared, robust_mean

Start = Literal["sequential", "random"]
Result = Literal["means", "candidates"]
_SCATTER_QUANTILE = 0.9
_LEAST_SCATTER = 1e-8


@dataclass(frozen=True)
class Merging:
    """How sets are merged; the second value of each choice is the released code's.

    Attributes:
        start: Candidates and first assignment: ``sequential`` opens a candidate only where a
            client has a prompt that fits none; ``random`` takes every prompt as a candidate and
            assigns at random.
        spread: See `PromptModel`.
        usage: See `PromptModel`.
        objective: Steps on the ``whole`` objective of the paper, each followed by a matching; or as
            the code was ``released``: a step takes one client's terms (see
            `PromptModel.released_objective`), the matching before the step weighs popularity by
            the client's number of prompts, and prompts keep their unit and origin.
        passes: Most passes over the clients; each is one gradient step and one matching a client.
        patience: Stop after so many passes without a changed assignment; ``None`` never does.
        learning_rate: Adam's step size, where the pool's variance is 1.
        largest_scatter: Bound on the estimated variance of prompts around their candidate, where
            the whole pool's is 1. Where clients' sets overlap in part alone, a smaller one, such as
            0.25, keeps unrelated prompts apart; where all start from one pool and move far, a
            larger one keeps copies together.
        result: ``means`` of the prompts that each candidate got, the objective's maximum for given
            assignments and scatters but for the pull of the popularity network; or the
            ``candidates`` where Adam left them.
        server: How the prompts of one candidate are averaged; hostile ones are a share of those.
    """

    start: Start = "sequential"
    spread: Spread = "variance"
    usage: Usage = "log_odds"
    objective: Objective = "whole"
    passes: int = 50
    patience: int | None = 5
    learning_rate: float = 1e-3
    largest_scatter: float = 0.5
    result: Result = "means"
    server: ServerOptions = field(default_factory=ServerOptions)

    def __post_init__(self) -> None:
        if not 0 < self.largest_scatter < 1:
            raise ConfigError(f"largest_scatter must be in (0, 1), got {self.largest_scatter}")
        if self.passes < 0 or (self.patience is not None and self.patience < 1):
            raise ConfigError(
                f"merging needs passes >= 0 and patience >= 1, got {self.passes} and "
                f"{self.patience}"
            )


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes:
        prompts: Candidates with at least one prompt, (n, d).
        assignment: Index of each client's prompts among them, each (u_t,); -1 where the candidate
            was dropped.
        support: How many clients each has a prompt of, (n,) int64.
    """

    prompts: Tensor
    assignment: tuple[Tensor, ...]
    support: Tensor


def merge(sets: Sequence[Tensor], options: Merging, seed: int) -> Merged:
    """Merge sets of prompts into one.

    Where we depart from the paper:

    - Prompts are shifted by their mean and divided by one number, so that their mean is 0 and
      their variance 1: a variance below 1, as a sigmoid gives it, then fits prompts of
      any size, and the result does not depend on their unit.
    - The start. With every prompt a candidate, each prompt fits its own candidate perfectly, and
      the objective rewards that without bound as the variance shrinks; nothing may ever merge. We
      open candidates one client after another, each at the price of a prompt drawn from the pool
      at large (as in SPAHM, arXiv 1911.00218), and begin at the means of the prompts they got.
    - With another rule of averaging than the mean (`ServerOptions.aggregation`), the shift is the
      coordinate median and the unit the median's, so that no client alone sets them, and a
      candidate that no more clients have a prompt of than may be hostile is dropped.
    - The result is the means. The popularity network is new in every round, and until it has
      settled it pulls candidates away from their prompts, by 2 to 5 hundredths of the pool's
      standard deviation: more than clients move in a round with a small step.

    Args:
        sets: The m clients' prompts, each (u_t, d) with u_t at least 1; the order of clients
            should be that of their ids.
        options: How.
        seed: Seed of the networks and of a random start.

    Returns:
        The pool, in the dtype of the prompts.
    """
    robust = options.server.aggregation != "mean"
    everything = torch.cat(list(sets)).double()
    centre = coordinate_median(everything) if robust else everything.mean(0)
    squares = (everything - centre).square()
    scale = float((squares.mean(1).quantile(0.5) if robust else squares.mean()).sqrt()) or 1.0
    if options.objective == "released":
        centre, scale = torch.zeros_like(centre), 1.0
    unit = [(one.double() - centre) / scale for one in sets]
    if options.start == "sequential":
        candidates, assignment = sequential_start(unit, options.largest_scatter)
    else:
        candidates, assignment = _random_start(unit, seed)
    model = PromptModel(candidates, options.spread, options.usage, seed)
    assignment = _alternate(model, unit, assignment, options)
    support = torch.bincount(torch.cat(assignment), minlength=len(candidates))
    kept = support > (_most_hostile(support, len(sets), options.server) if robust else 0)
    rank = kept.cumsum(0) - 1
    if options.result == "candidates":
        found = model.candidates.detach()[kept]
    elif robust:
        found = _robust_means(torch.cat(unit), torch.cat(assignment), kept, options.server)
    else:
        sums = torch.zeros_like(candidates).index_add(0, torch.cat(assignment), torch.cat(unit))
        found = sums[kept] / support[kept, None]
    prompts = (found * scale + centre).to(sets[0].dtype)
    return Merged(
        prompts, tuple(rank[one].where(kept[one], -1) for one in assignment), support[kept]
    )


def _most_hostile(support: Tensor, clients: int, options: ServerOptions) -> int:
    """How many clients' support is too little, since all of them may be hostile."""
    hostile = declared(options.hostile_share, clients, (clients - 1) // 2)
    return min(hostile, int(support.max()) - 1)


def _robust_means(
    prompts: Tensor, assignment: Tensor, kept: Tensor, options: ServerOptions
) -> Tensor:
    """Average each kept candidate's prompts by another rule than the mean, (n, d)."""
    members = [prompts[assignment == candidate] for candidate in kept.nonzero().flatten().tolist()]
    weights = [one.new_full((len(one),), 1 / len(one)) for one in members]
    found = [robust_mean(one, w, options) for one, w in zip(members, weights, strict=True)]
    return torch.stack(found)


def _alternate(
    model: PromptModel, sets: Sequence[Tensor], assignment: Sequence[Tensor], options: Merging
) -> list[Tensor]:
    """Improve model and assignment in turns; changes the model, returns the assignment."""
    now = list(assignment)
    adam = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    unchanged = 0
    for _ in range(options.passes):
        unchanged += 1
        for client, prompts in enumerate(sets):
            adam.zero_grad()
            released = options.objective == "released"
            before = model.match(prompts, now[client], len(prompts)) if released else None
            with torch.enable_grad():
                if released:
                    loss = -model.released_objective(prompts, now[client])
                else:
                    loss = -model.objective(sets, now)
            loss.backward()
            adam.step()
            new = model.match(prompts, now[client]) if before is None else before
            if not torch.equal(new, now[client]):
                now[client], unchanged = new, 0
        if unchanged == options.patience:
            break
    return now


def _random_start(sets: Sequence[Tensor], seed: int) -> tuple[Tensor, list[Tensor]]:
    """Make every prompt a candidate, and assign each client's to different ones at random."""
    candidates = torch.cat(list(sets))
    stream = generator(seed, "random assignment")
    assignment = [torch.randperm(len(candidates), generator=stream)[: len(one)] for one in sets]
    return candidates, assignment


def sequential_start(
    sets: Sequence[Tensor], largest_scatter: float = 0.5
) -> tuple[Tensor, list[Tensor]]:
    """Take clients one after another; each prompt joins a candidate or opens one.

    A candidate is drawn from Normal(0, 1 - v) and a prompt from Normal(candidate, v). The score of
    joining is the predictive log density given the candidate's prompts so far, that of opening
    is the density under Normal(0, 1); both plus the log odds of being used, from the share of
    earlier clients that have it. The best total is found by the Hungarian method.

    Args:
        sets: Prompts of mean 0 and variance 1, each (u_t, d).
        largest_scatter: Bound on v.

    Returns:
        Means of the candidates' prompts, (n, d), and the assignment, each (u_t,).
    """
    scatter = min(estimate_scatter(sets), largest_scatter)
    sums = sets[0].new_zeros(0, sets[0].shape[-1])
    counts = sets[0].new_zeros(0)
    assignment = []
    for seen, prompts in enumerate(sets):
        precision = 1 / (1 - scatter) + counts / scatter  # of the candidate, given its prompts
        mean = sums / scatter / precision[:, None]
        variance = 1 / precision + scatter
        squared = torch.cdist(prompts, mean, compute_mode="donot_use_mm_for_euclid_dist").square()
        width = prompts.shape[-1]
        join = -0.5 * (squared / variance + width * variance.log()) + _share(counts, seen).logit()
        fresh = -0.5 * prompts.square().sum(-1) + _share(counts.new_zeros(()), seen).logit()
        score = torch.cat([join, fresh[:, None].expand(-1, len(prompts))], dim=1)
        chosen = best_assignment(score)
        opened = chosen >= len(counts)
        chosen[opened] = len(counts) + torch.arange(int(opened.sum()))
        grown = (0, int(opened.sum()))
        counts = F.pad(counts, grown).index_add(
            0, chosen, torch.ones(len(chosen), dtype=counts.dtype)
        )
        sums = F.pad(sums, (0, 0, *grown)).index_add(0, chosen, prompts)
        assignment.append(chosen)
    return sums / counts[:, None], assignment


def _share(count: Tensor, seen: int) -> Tensor:
    """Estimated probability of use, after ``count`` of ``seen`` clients have used it."""
    return (count + 0.5) / (seen + 1)


def estimate_scatter(sets: Sequence[Tensor]) -> float:
    """Estimate the variance of prompts around their candidates.

    Every set is matched to the largest one with the least squared distance; half the 0.9 quantile
    of what is left a coordinate, exact copies apart, is the variance. Not the median: a prompt that
    a client has trained much lies further off than one that it hardly touched, and would open a
    candidate of its own in every round. Where more than a tenth of the prompts have no partner in
    the largest set, this is a distance between unrelated ones: see `Merging.largest_scatter`.

    Args:
        sets: Prompts of mean 0 and variance 1, each (u_t, d).
    """
    reference = max(sets, key=len)
    apart = []
    for prompts in sets:
        squared = torch.cdist(
            prompts, reference, compute_mode="donot_use_mm_for_euclid_dist"
        ).square()
        matched = best_assignment(-squared)
        apart.append(squared[torch.arange(len(prompts)), matched] / prompts.shape[-1])
    left = torch.cat(apart)
    left = left[left > _LEAST_SCATTER]
    if not len(left):
        return _LEAST_SCATTER
    return float(left.quantile(_SCATTER_QUANTILE)) / 2
