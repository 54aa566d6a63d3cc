"""Whether a client trained on an example, guessed from its uploads.

Two attacks on the same candidates, a client's training examples and as many others of the same
classes that nobody trained on. ``phi`` is the logit-scaled confidence in the true class of
Carlini et al. (S&P 2022, arXiv 2112.03570), section V.

- *difference*: ``phi(x, end) - phi(x, start)``, a loss threshold calibrated for how hard an
  example is (Watson et al., ICLR 2022, arXiv 2111.08440).
- *LiRA*: the offline attack of Carlini et al. (section VI): the observer trains shadow clients
  from the same start on its own images with the client's numbers of each class, and measures how
  far ``phi(x, end)`` lies above theirs, in their standard deviations. It is given those numbers,
  and shadows train without noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.leakage.observed import Move, Observed, chosen
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, ClientTask, Setting
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.prompts.tuning import classify
from pfedmoap.seeding import generator
from pfedmoap.wire.messages import ClientId, Download
from privacy.auditing.membership import Separation, separation

_LEAST_SPREAD = 0.05  # of the shadows' phi, where they happen to agree


@dataclass(frozen=True)
class Guesses:
    """Scores of all candidates of a run.

    Attributes:
        difference: Scores of the calibrated threshold, (m,).
        lira: Scores of the likelihood ratio attack, (m,).
        member: The truth, (m,).
    """

    difference: NDArray[np.float64]
    lira: NDArray[np.float64]
    member: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence["Guesses"]) -> "Guesses":
        """Put candidates of several clients or runs together."""
        return cls(
            np.concatenate([part.difference for part in parts]),
            np.concatenate([part.lira for part in parts]),
            np.concatenate([part.member for part in parts]),
        )

    def separations(self) -> dict[str, Separation]:
        """How well each attack tells members from others, by its name."""
        return {
            "difference": separation(self.difference, self.member),
            "lira": separation(self.lira, self.member),
        }


def guess_members(seen: Observed, trainer: PromptFL, shadows: int, seed: int) -> Guesses:
    """Score the candidates of every client.

    Args:
        seen: What the observer holds.
        trainer: Trains shadows as clients train.
        shadows: How many for each client and round.
        seed: Seed of the observer's draws.
    """
    parts = []
    for client, moves in seen.moves.items():
        members = seen.clients[client]
        others = _like(members.labels, seen.others, generator(seed, "others", client))
        known = torch.isin(members.labels, others.labels.unique())
        candidates = chosen(members, known).joined(others)
        difference = torch.zeros(len(candidates), dtype=torch.float64)
        lira = torch.zeros(len(candidates), dtype=torch.float64)
        for round, move in enumerate(moves, 1):
            found = confidence(trainer, move.end, candidates)
            difference += found - confidence(trainer, move.start, candidates)
            stream = generator(seed, "shadows", client, round)
            data = [_like(members.labels, seen.own, stream) for _ in range(shadows)]
            trained = _shadows(trainer, move, data)
            out = torch.stack([confidence(trainer, prompt, candidates) for prompt in trained])
            lira += (found - out.mean(0)) / out.std(0).clamp(min=_LEAST_SPREAD)
        member = np.arange(len(candidates)) < int(known.sum())
        parts.append(Guesses(difference.numpy(), lira.numpy(), member))
    return Guesses.joined(parts)


def confidence(trainer: PromptFL, prompt: Tensor, data: ClientData) -> Tensor:
    """``log p_y - log (1 - p_y)`` of each example's true class y, (n,) float64."""
    setting: Setting = trainer.setting
    logits = classify(trainer.encoder, prompt, setting, data.view()["image"]).logits
    logits = logits.detach().cpu().double()
    right = logits.gather(1, data.labels[:, None])[:, 0]
    return right - logits.scatter(1, data.labels[:, None], -torch.inf).logsumexp(1)


def _shadows(trainer: PromptFL, move: Move, data: Sequence[ClientData]) -> list[Tensor]:
    """Prompts that clients with these data would train from the same start."""
    tasks = [
        ClientTask(Download(1, ClientId(i), {"context": move.start}), None, own)
        for i, own in enumerate(data)
    ]
    results = trainer.train(tasks, NoPrivacy())
    return [result.update.arrays["context"] for result in results]


def _like(labels: Tensor, pool: ClientData, stream: torch.Generator) -> ClientData:
    """Draw examples of a pool, as many of each class as there are labels, or all that it has."""
    rows = []
    for label, count in zip(*labels.unique(return_counts=True), strict=True):
        having = (pool.labels == label).nonzero().flatten()
        order = torch.randperm(len(having), generator=stream)
        rows.append(having[order[: int(count)]])
    return chosen(pool, torch.cat(rows))
