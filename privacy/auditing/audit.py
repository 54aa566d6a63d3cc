"""Audit a federated run: insert canaries, observe uploads, and guess which were inserted.

The audited object is what the guarantee is about, the sequence of all clients' uploaded prompts.
Each client trains on its ordinary examples and on its own random half of the canaries; the auditor
sees every download and upload, knows the ordinary examples, the model and the code, and guesses
which canaries were in. One run has as many canaries as all clients together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.round import run_round
from pfedmoap.errors import PrivacyError
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.logits import cosine_logits, cross_entropy
from pfedmoap.wire.messages import Arrays, ClientId
from privacy.auditing.canaries import Examples, craft_canaries, example_gradients, traces
from privacy.auditing.noise_rows import NoiseRows, span
from privacy.auditing.planted import CANARY, PROMPT, Planted, directions
from privacy.auditing.seed_search import SeedSearch
from privacy.auditing.wiretap import Exchange, Wiretap
from privacy.mechanisms.randomness import Randomness, SecureStream

LENGTH = 10.0  # of a gradient canary, in clipping norms: without clipping it stands out


@dataclass(frozen=True)
class Scores:
    """One auditor's scores of one kind of canary.

    Attributes:
        name: Kind of canary.
        sees: What the auditor observes.
        scores: One for each canary of each client, higher where it looks like having been in.
        included: Whether it was.
    """

    name: str
    sees: Literal["uploads", "steps"]
    scores: NDArray[np.float64]
    included: NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """All scores of an audit, with the truth.

    Attributes:
        views: Canaries' scores: images from uploads, gradients from uploads, and from steps.
        member_scores: One for each ordinary training example and as many unseen ones.
        member: Whether it was trained on.
        steps: Noise of the steps' gradients.
        uploads: Noise of what was uploaded.
    """

    views: tuple[Scores, ...]
    member_scores: NDArray[np.float64]
    member: NDArray[np.bool_]
    steps: NoiseRows
    uploads: NoiseRows


@dataclass(frozen=True)
class Hidden:
    """The canaries of a run, and which of them are included.

    Attributes:
        images: Crafted image features.
        images_in: Which are in, by client.
        directions: Of gradient canaries, (n, L W).
        directions_in: Which are in, by client.
    """

    images: Examples
    images_in: Mapping[ClientId, Tensor]
    directions: Tensor
    directions_in: Mapping[ClientId, Tensor]


@dataclass(frozen=True)
class Audit:
    """An audit of one method on some clients' data.

    Attributes:
        method: What trains; it exchanges prompts named ``context``.
        members: Ordinary training examples by client.
        others: As many examples of each client that are not trained on.
        rounds: Rounds of the audited run.
        canaries: Image canaries of each client, half of which are in on average.
        gradient_canaries: Gradient canaries of each client, likewise.
        max_grad_norm: Clipping norm that the auditor assumes.
        seed: Of the canaries and of who gets which.
        search: Tries to find noise by its seed.
    """

    method: AnyMethod
    members: Mapping[ClientId, Examples]
    others: Mapping[ClientId, Examples]
    rounds: int
    canaries: int
    gradient_canaries: int
    max_grad_norm: float
    seed: int = 0
    search: SeedSearch = field(default_factory=SeedSearch)

    @cached_property
    def _start(self) -> Tensor:
        """The first prompt, (L, W)."""
        first = self.method.plan(self.method.init(), sorted(self.members), 1)[0]
        if PROMPT not in first.arrays:
            raise PrivacyError("the audit reads uploaded prompts: use a method that exchanges them")
        return first.arrays[PROMPT].to(self.method.setting.backbone.device)

    @cached_property
    def _encoder(self) -> PromptEncoder:
        setting = self.method.setting
        return setting.backbone.prompt_encoder(setting.class_names, len(self._start))

    @cached_property
    def hidden(self) -> Hidden:
        """The canaries, the same for every audited mechanism."""
        backbone, draws = self.method.setting.backbone, Randomness(self.seed)
        images = craft_canaries(
            self._encoder,
            backbone.logit_scale,
            self._start,
            backbone.embed_dim,
            self.canaries,
            draws.stream("canaries"),
        )
        rows = directions(self.gradient_canaries, self._start.numel(), draws.stream("directions"))

        def coins(name: str, count: int) -> dict[ClientId, Tensor]:
            return {
                client: draws.stream(name, client).uniform(count) < 0.5
                for client in sorted(self.members)
            }

        return Hidden(
            images,
            coins("coins", self.canaries),
            rows,
            coins("gradient coins", self.gradient_canaries),
        )

    @property
    def sizes(self) -> dict[ClientId, int]:
        """Number of examples of each client that a run trains on; private."""
        return {client: len(data) for client, data in self._data().items()}

    def _data(self) -> dict[ClientId, ClientData]:
        hidden = self.hidden
        return {client: _client_data(own, hidden, client) for client, own in self.members.items()}

    def run(self, privatizer: Privatizer) -> Evidence:
        """Train once under a privatizer and score everything.

        Args:
            privatizer: The audited one; its budget is spent.

        Returns:
            The evidence.
        """
        planted = Planted(
            privatizer,
            self.hidden.directions,
            LENGTH * self.max_grad_norm,
            NoiseRows(self.search),
        )
        data, wire, state = self._data(), Wiretap(), self.method.init()
        local_states: dict[ClientId, Arrays] = {}
        for round in range(1, self.rounds + 1):
            result = run_round(
                self.method, state, sorted(data), round, data, local_states, wire, planted
            )
            state, local_states = result.state, {**local_states, **result.local_states}
        return self._score(wire.exchanges, planted)

    def _score(self, exchanges: Sequence[Exchange], planted: Planted) -> Evidence:
        backbone, hidden = self.method.setting.backbone, self.hidden
        device, scale = backbone.device, backbone.logit_scale
        images = {client: torch.zeros(self.canaries) for client in self.members}
        rows = {client: torch.zeros(self.gradient_canaries) for client in self.members}
        learned = {client: torch.zeros(2 * len(self.members[client])) for client in self.members}
        noise = NoiseRows(self.search)
        for exchange in exchanges:
            start, upload = exchange.start.to(device), exchange.upload.to(device)
            client, known = exchange.client, self.members[exchange.client]
            move = (start - upload).flatten()
            plain = _join(hidden.images, known)
            plain = Examples(plain.image.to(device), plain.labels.to(device))
            gradients = example_gradients(self._encoder, scale, start, plain)
            canaries = self.max_grad_norm * hidden.directions.to(device)
            found = traces(move, torch.cat([gradients, canaries]), self.max_grad_norm)
            images[client] += found[: self.canaries].cpu()
            noise.add(client, move.cpu(), gradients.cpu()[:0], hidden.directions)
            basis = span(gradients.cpu())
            clean = move.cpu() - basis @ (basis.mT @ move.cpu())
            rows[client] += hidden.directions @ clean
            pool = _join(known, self.others[client])
            learned[client] += _loss_drop(self._encoder, scale, start, upload, pool)
        clients = sorted(self.members)
        member = [torch.arange(len(learned[c])) < len(self.members[c]) for c in clients]
        coins = [hidden.directions_in[c] for c in clients]
        steps = [planted.scores[c] for c in clients if c in planted.scores]
        return Evidence(
            views=(
                _scores(
                    "image canaries",
                    "uploads",
                    [images[c] for c in clients],
                    [hidden.images_in[c] for c in clients],
                ),
                _scores("gradient canaries", "uploads", [rows[c] for c in clients], coins),
                _scores("gradient canaries", "steps", steps, coins),
            ),
            member_scores=_flat([learned[c] for c in clients]).astype(np.float64),
            member=_flat(member),
            steps=planted.rows,
            uploads=noise,
        )


def _scores(
    name: str,
    sees: Literal["uploads", "steps"],
    scores: Sequence[Tensor],
    included: Sequence[Tensor],
) -> Scores:
    return Scores(name, sees, _flat(scores).astype(np.float64), _flat(included))


def _client_data(own: Examples, hidden: Hidden, client: ClientId) -> ClientData:
    """Make a client's training data of its own examples and its included canaries."""
    images = hidden.images_in[client].to(hidden.images.labels.device)
    joined = _join(own, Examples(hidden.images.image[images], hidden.images.labels[images]))
    chosen = hidden.directions_in[client].nonzero()[:, 0]
    # A gradient canary needs some image features, but which does not matter.
    like = joined.image[:1].expand(len(chosen), -1)
    image = torch.cat([joined.image, like])
    labels = torch.cat([joined.labels, joined.labels[:1].expand(len(chosen))])
    canary = torch.cat([torch.zeros_like(joined.labels), chosen + 1])
    return ClientData({"image": image[:, None], CANARY: canary[:, None]}, labels)


def _join(first: Examples, second: Examples) -> Examples:
    image = torch.cat([first.image.cpu(), second.image.cpu()])
    return Examples(image, torch.cat([first.labels.cpu(), second.labels.cpu()]))


@torch.no_grad()
def _loss_drop(
    encoder: PromptEncoder, scale: float, start: Tensor, upload: Tensor, pool: Examples
) -> Tensor:
    """Compute each example's decrease in loss from a round's download to its upload, (n,)."""
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
