"""Auditing a whole federated run: canaries go in, uploads come out, and both sides are compared.

The audited object is what the guarantee is about, the sequence of all clients' uploaded prompts.
Each client trains on its ordinary examples and on its own random half of the canaries; the auditor
sees every download and upload, knows the ordinary examples, the model and the code, and guesses
which canaries were in. One run has as many canaries as all clients together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.backbone.clip import PromptEncoder
from pfedmoap.errors import PrivacyError
from pfedmoap.gradients import Privatizer
from pfedmoap.method import AnyMethod, ClientData
from pfedmoap.prompt_tuning import cosine_logits, cross_entropy
from pfedmoap.rounds import run_round
from pfedmoap.transport.in_process import InProcess
from pfedmoap.types import Arrays, ClientId, Download, Update
from privacy.canaries import Examples, craft_canaries, example_gradients, traces
from privacy.randomness import Randomness, SecureStream

PROMPT = "context"


@dataclass(frozen=True)
class Exchange:
    """What one client and the server exchanged in one round, as an adversary sees it.

    Attributes:
        client: The client.
        start: The prompt that it was sent, (L, W).
        upload: The prompt that it sent back, (L, W).
    """

    client: ClientId
    start: Tensor
    upload: Tensor


@dataclass(frozen=True)
class Evidence:
    """All that an auditor scores, with the truth beside it.

    Attributes:
        scores: One for each canary of each client, higher where it looks like having been in.
        included: Whether it was.
        member_scores: One for each ordinary training example and as many unseen ones.
        member: Whether it was trained on.
    """

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]
    member_scores: NDArray[np.float64]
    member: NDArray[np.bool_]


class Wiretap(InProcess):
    """A wire that keeps a copy of every prompt that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self._sent: dict[ClientId, Tensor] = {}

    def down(self, download: Download) -> Download:
        """Carry a download; see `InProcess.down`."""
        arrived = super().down(download)
        if PROMPT not in arrived.arrays:
            raise PrivacyError("the audit reads uploaded prompts: use a method that exchanges them")
        self._sent[download.client] = arrived.arrays[PROMPT].clone()
        return arrived

    def up(self, update: Update) -> Update:
        """Carry an update; see `InProcess.up`."""
        arrived = super().up(update)
        sent = self._sent[update.client]
        self.exchanges.append(Exchange(update.client, sent, arrived.arrays[PROMPT].clone()))
        return arrived


@dataclass(frozen=True)
class Audit:
    """An audit of one method on some clients' data.

    Attributes:
        method: What trains; it exchanges prompts named ``context``.
        members: Ordinary training examples by client.
        others: As many examples of each client that are not trained on.
        rounds: Rounds of the audited run.
        canaries: Canaries of each client, half of which are in on average.
        max_grad_norm: Clipping norm that the auditor reckons with.
        seed: Of the canaries and of who gets which.
    """

    method: AnyMethod
    members: Mapping[ClientId, Examples]
    others: Mapping[ClientId, Examples]
    rounds: int
    canaries: int
    max_grad_norm: float
    seed: int = 0

    def run(self, privatizer: Privatizer) -> Evidence:
        """Train once under a privatizer and score everything.

        Args:
            privatizer: The audited one; it is used up.

        Returns:
            The evidence.
        """
        backbone = self.method.setting.backbone
        state = self.method.init()
        first = self.method.plan(state, sorted(self.members), 1)[0]
        start = first.arrays[PROMPT].to(backbone.device)
        encoder = backbone.prompt_encoder(self.method.setting.class_names, len(start))
        draws = Randomness(self.seed)
        canaries = craft_canaries(
            *(encoder, backbone.logit_scale, start, backbone.embed_dim, self.canaries),
            draws.stream("canaries"),
        )
        included = {
            client: draws.stream("coins", client).uniform(self.canaries) < 0.5
            for client in sorted(self.members)
        }
        data = {
            client: _client_data(own, canaries, included[client])
            for client, own in self.members.items()
        }
        wire = Wiretap()
        locals: dict[ClientId, Arrays] = {}
        for round in range(1, self.rounds + 1):
            result = run_round(
                self.method, state, sorted(data), round, data, locals, wire, privatizer
            )
            state, locals = result.state, {**locals, **result.locals}
        return self._score(wire.exchanges, encoder, canaries, included)

    def _score(
        self,
        exchanges: Sequence[Exchange],
        encoder: PromptEncoder,
        canaries: Examples,
        included: Mapping[ClientId, Tensor],
    ) -> Evidence:
        device, scale = (
            self.method.setting.backbone.device,
            self.method.setting.backbone.logit_scale,
        )
        strength = {client: torch.zeros(len(canaries)) for client in included}
        learned = {client: torch.zeros(2 * len(self.members[client])) for client in included}
        for exchange in exchanges:
            start, upload = exchange.start.to(device), exchange.upload.to(device)
            known = self.members[exchange.client]
            columns = Examples(
                torch.cat([canaries.image, known.image.to(device)]),
                torch.cat([canaries.labels, known.labels.to(device)]),
            )
            gradients = example_gradients(encoder, scale, start, columns)
            found = traces((start - upload).flatten(), gradients, self.max_grad_norm)
            strength[exchange.client] += found[: len(canaries)].cpu()
            pool = _join(known, self.others[exchange.client])
            learned[exchange.client] += _loss_drop(encoder, scale, start, upload, pool)
        clients = sorted(included)
        member = [torch.arange(len(learned[c])) < len(self.members[c]) for c in clients]
        return Evidence(
            scores=_flat([strength[c] for c in clients]).astype(np.float64),
            included=_flat([included[c] for c in clients]),
            member_scores=_flat([learned[c] for c in clients]).astype(np.float64),
            member=_flat(member),
        )


def _client_data(own: Examples, canaries: Examples, included: Tensor) -> ClientData:
    chosen = included.to(canaries.labels.device)
    joined = _join(own, Examples(canaries.image[chosen], canaries.labels[chosen]))
    return ClientData({"image": joined.image[:, None]}, joined.labels)


def _join(first: Examples, second: Examples) -> Examples:
    image = torch.cat([first.image.cpu(), second.image.cpu()])
    return Examples(image, torch.cat([first.labels.cpu(), second.labels.cpu()]))


@torch.no_grad()
def _loss_drop(
    encoder: PromptEncoder, scale: float, start: Tensor, upload: Tensor, pool: Examples
) -> Tensor:
    """How much better a round's upload fits each example than what the round began with, (n,)."""
    image, labels = pool.image.to(start.device), pool.labels.to(start.device)
    before, after = (
        cross_entropy(cosine_logits(image, text, scale), labels)
        for text in encoder(torch.stack([start, upload]))
    )
    return (before - after).cpu()


def _flat(tensors: Sequence[Tensor]) -> NDArray[Any]:  # of booleans or floats
    return torch.cat(list(tensors)).numpy()


def halves(data: ClientData, count: int, draws: SecureStream) -> tuple[Examples, Examples]:
    """Draw up to ``count`` examples to train on, and as many others to compare with.

    Args:
        data: A client's data; its first view is taken.
        count: Largest number of members.
        draws: Where the choice comes from.

    Returns:
        Members and others, equally many.
    """
    size = min(count, len(data) // 2)
    order = draws.permutation(len(data))
    image, labels = data.features["image"][:, 0], data.labels
    return tuple(  # type: ignore[return-value]  # two of them
        Examples(image[part], labels[part]) for part in (order[:size], order[size : 2 * size])
    )
