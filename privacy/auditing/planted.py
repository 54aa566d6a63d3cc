"""Gradient canaries: examples whose gradient is a direction of their own (Dirac canaries).

Nasr et al. (USENIX Security 2023) and Steinke et al. (NeurIPS 2023, section 6) audit private steps
with examples whose gradient is a fixed vector; here orthonormal ones, one a canary, longer than the
clipping norm. They are ordinary examples of a client: in or out by a coin, sampled, clipped and
summed like any other. Only their loss is not a classifier's: the loss ``<v, prompt>`` has the
gradient v, whatever the prompt is, so that the audited mechanism needs no change at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pfedmoap.client.batches import Batch, BatchPlan, Stream
from pfedmoap.client.privatizer import Authorisation, Privatizer
from pfedmoap.client.privatizer_at_server import ServerSide
from pfedmoap.client.problem import BatchWide, Problem
from pfedmoap.errors import PrivacyError
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from privacy.auditing.noise_rows import NoiseRows
from privacy.mechanisms.mechanism import with_penalty
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import SecureStream

CANARY = "canary"  # kind of feature: 0 for an ordinary example, i + 1 for gradient canary i
PROMPT = "context"
_MEMORY_BYTES = 2**28


def directions(count: int, size: int, draws: SecureStream) -> Tensor:
    """Draw orthonormal directions, (n, d).

    Args:
        count: Number n of canaries of one client.
        size: Number d of the prompt's coordinates.
        draws: Where they come from.

    Raises:
        PrivacyError: There are not so many orthogonal directions.
    """
    if not 0 < count <= size:
        raise PrivacyError(
            f"a prompt of {size} numbers has room for 1 to {size} gradient canaries, got {count}: "
            "ask for fewer, or for a longer context"
        )
    basis: Tensor = torch.linalg.qr(draws.normal(size, count)).Q
    return basis.mT.float().contiguous()


@dataclass(frozen=True)
class WithCanaries:
    """A client's problem, with the canaries' losses in place of the classifier's.

    Attributes:
        problem: The problem of ordinary examples.
        table: Gradients of "no canary" (zeros) and of the n canaries, (1 + n, L W).
    """

    problem: Problem
    table: Tensor

    def represent(self, params: Arrays) -> Arrays:
        """See `Problem.represent`."""
        return self.problem.represent(params)

    def losses(self, params: Arrays, shared: Arrays, features: Arrays, labels: Tensor) -> Tensor:
        """One loss for each example, (K, B): linear in the prompt for canaries."""
        canary = features[CANARY]  # (K, B)
        plain = self.problem.losses(params, shared, _ordinary(features), labels)
        linear = (self.table[canary] * params[PROMPT].flatten(1).unsqueeze(1)).sum(-1)
        return torch.where(canary > 0, linear, plain)

    def penalty(self, params: Arrays) -> Tensor:
        """See `Problem.penalty`."""
        return self.problem.penalty(params)


@dataclass
class Planted:
    """A privatizer with gradient canaries in its steps, and an auditor who observes each step.

    The auditor of the *steps* knows the code, the prompts before each step, every example that is
    no gradient canary and whether it was drawn, and reads the step's noisy gradient. All of this is
    allowed to an adversary by the guarantee: it holds for each canary given everything else.

    Attributes:
        inner: The audited privatizer.
        directions: Of the canaries, (n, L W).
        length: Length of a canary's gradient; at least the clipping norm.
        rows: What is read off the steps.
    """

    inner: Privatizer
    directions: Tensor
    length: float
    rows: NoiseRows
    scores: dict[ClientId, Tensor] = field(default_factory=dict)

    @property
    def decoupled(self) -> bool:
        """See `Privatizer.decoupled`."""
        return self.inner.decoupled

    @property
    def server(self) -> ServerSide:
        """See `Privatizer.server`."""
        return self.inner.server

    def clipped(self) -> Mapping[ClientId, float]:
        """See `Privatizer.clipped`."""
        return self.inner.clipped()

    def authorise(
        self, cohort: Sequence[ClientId], round: int, known: Mapping[ClientId, int]
    ) -> Authorisation:
        """See `Privatizer.authorise`."""
        return self.inner.authorise(cohort, round, known)

    def batches(
        self,
        sizes: Sequence[int],
        views: int,
        streams: Sequence[Stream],
        epochs: int,
        batch_size: int,
        steps: int | None = None,
    ) -> BatchPlan:
        """See `Privatizer.batches`."""
        return self.inner.batches(sizes, views, streams, epochs, batch_size, steps)

    def release(self, update: Update, download: Download) -> Update:
        """See `Privatizer.release`."""
        return self.inner.release(update, download)

    def describe(self) -> dict[str, Any]:
        """See `Privatizer.describe`."""
        return self.inner.describe()

    def gradients(self, problem: Problem, params: Arrays, batch: Batch) -> tuple[Arrays, Tensor]:
        """Form one step's gradients, canaries included, and record the auditor's observation.

        Raises:
            PrivacyError: The problem trains no prompt, or its examples act on each other.
        """
        if PROMPT not in params or isinstance(problem, BatchWide):
            raise PrivacyError(
                "the audit plants canaries in per-example gradients of a prompt named "
                f"{PROMPT!r}; {type(problem).__name__} trains {sorted(params)} or lets examples "
                "act on each other: audit a method that exchanges one prompt, such as promptfl"
            )
        table = torch.cat([torch.zeros_like(self.directions[:1]), self.length * self.directions])
        planted = WithCanaries(problem, table.to(batch.labels.device))
        found, loss = self.inner.gradients(planted, params, batch)
        self._read(problem, params, batch, found)
        return found, loss

    def _read(self, problem: Problem, params: Arrays, batch: Batch, found: Arrays) -> None:
        zero = {name: torch.zeros_like(value) for name, value in params.items()}
        pull = with_penalty(problem, params, zero)[PROMPT]  # public and without noise
        noisy = (found[PROMPT] - pull).flatten(1).cpu()  # (K, d)
        ordinary = Batch(
            _ordinary(batch.features),
            batch.labels,
            batch.weight * (batch.features[CANARY] == 0),
            batch.streams,
        )
        chunks = per_example_gradients(problem, params, ordinary, _MEMORY_BYTES)
        known = torch.cat([each[PROMPT].flatten(2).cpu() for each, _ in chunks], dim=1)
        for row, stream in enumerate(batch.streams):
            present = ordinary.weight[row].cpu() > 0
            clean = self.rows.add(stream.client, noisy[row], known[row][present], self.directions)
            before = self.scores.get(stream.client, torch.zeros(len(self.directions)))
            self.scores[stream.client] = before + self.directions @ clean


def _ordinary(features: Arrays) -> dict[str, Tensor]:
    return {kind: value for kind, value in features.items() if kind != CANARY}
