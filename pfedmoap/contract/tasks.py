"""The data a method works on: its setting, clients' tasks and results, predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import TypeVar as TypeVarWithDefault

from pfedmoap.client.local_training import Training
from pfedmoap.client.step_cache import StepCache
from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

S = TypeVar("S")


B = TypeVarWithDefault("B", default=FrozenCLIP, covariant=True)
"""The backbone's type: a `Setting` that does not say another one has a CLIP."""


@dataclass(frozen=True)
class ClientData:
    """One client's labelled features, of its training or its test images, or the server's.

    Attributes:
        features: By kind, (n, V, ...): V views of each image.
        labels: (n,) int64.
    """

    features: Arrays
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def view(self, index: int = 0) -> Arrays:
        """One view of every image, by kind, (n, ...)."""
        return {kind: views[:, index] for kind, views in self.features.items()}

    def only(self, kinds: Sequence[str]) -> "ClientData":
        """The same examples with some kinds of features alone."""
        return ClientData({kind: self.features[kind] for kind in kinds}, self.labels)

    def joined(self, other: "ClientData") -> "ClientData":
        """These examples, and then another's, which have at least the same kinds of features."""
        features = {
            kind: torch.cat([views, other.features[kind]]) for kind, views in self.features.items()
        }
        return ClientData(features, torch.cat([self.labels, other.labels]))


@dataclass(frozen=True)
class Setting(Generic[B]):
    """What a method is constructed with: all of it public, or held by the server.

    Attributes:
        backbone: The frozen model, the same on every client.
        class_names: C names in label order.
        training: How clients train locally.
        templates: Hand-written prompts for zero-shot classification, each with one ``{}``.
        seed: Seed of everything random in the method and in training.
        server_data: Labelled examples that the server holds and no client has, if any.
        server: How the server bounds and averages uploads.
        pool: Whose prompts a pool of experts serves.
        rounds: Rounds of the run, for step sizes that change over all of it; ``None`` if unknown.
        steps: Where captured training steps are kept; it lives as long as the setting.
    """

    backbone: B
    class_names: tuple[str, ...]
    training: Training
    templates: tuple[str, ...] = ("a photo of a {}.",)
    seed: int = 0
    server_data: ClientData | None = None
    server: ServerOptions = field(default_factory=ServerOptions)
    pool: PoolOptions = field(default_factory=PoolOptions)
    rounds: int | None = None
    steps: StepCache = field(default_factory=StepCache, compare=False, repr=False)


@dataclass(frozen=True)
class ClientTask:
    """One client's inputs to a round.

    Attributes:
        download: What the server sent.
        local: The client's state after its last round; ``None`` before its first.
        data: Its training data.
    """

    download: Download
    local: Arrays | None
    data: ClientData


@dataclass(frozen=True)
class ClientResult:
    """One client's outputs of a round.

    Attributes:
        update: What it uploads.
        local: Its new local state.
        costs: Costs of the round outside the federation, e.g. queries to a remote model, by
            name; for the log, not for the server.
        lasting: The arrays of ``local`` that it keeps even if its update is refused, e.g. the
            number of queries made. All else that it trained is then dropped: these arrays are
            merged into its earlier local state, which may be empty.
    """

    update: Update
    local: Arrays
    costs: Mapping[str, float] = field(default_factory=dict)
    lasting: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class ArraySpec:
    """What the server expects of one uploaded tensor.

    Attributes:
        shape: Its exact shape; with ``rows_of``, the first side is the most that there can be.
        max_norm: Largest l2 norm that is admitted.
        dtype: Its exact dtype.
        rows_of: Where the number of rows changes from round to round: the downloaded array that it
            must have as many rows as.
        fewer_rows: Whether fewer rows than that, but at least one, are admitted too.
    """

    shape: tuple[int, ...]
    max_norm: float = 1e4
    dtype: torch.dtype = torch.float32
    rows_of: str | None = None
    fewer_rows: bool = False

    def admits(self, shape: tuple[int, ...], sent: Arrays | None = None) -> bool:
        """Return whether an uploaded tensor may have a shape.

        Args:
            shape: The shape.
            sent: What the server had sent to the client; without it, only the most is checked.
        """
        if self.rows_of is None:
            return shape == self.shape
        most, exact = self.shape[0], sent is not None and not self.fewer_rows
        if sent is not None:
            most = len(sent[self.rows_of])
        rows = range(most if exact else 1, most + 1)
        return len(shape) > 0 and shape[0] in rows and shape[1:] == self.shape[1:]


@dataclass(frozen=True)
class Prediction:
    """A client model's answer for a batch.

    Attributes:
        logits: (B, C).
        attention: Weight of each expert, (B, C, E); ``None`` where the method has no gate or the
            gate is not in use. Expert 0 is the client's own prompt.
        experts: Whose prompts experts 1 .. E-1 are.
    """

    logits: Tensor
    attention: Tensor | None = None
    experts: tuple[ClientId, ...] = ()
