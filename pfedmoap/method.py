"""The contract of a federated method, and the lookup of methods by name.

A method is one frozen dataclass in one file under ``pfedmoap/methods/``: its fields are a
`Setting` and the paper's hyperparameters, its functions take state and return new state. What a
server or a client knows between rounds is plain named tensors, so that it can be saved, compared
and sent without the method's help.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from typing_extensions import TypeVar as TypeVarWithDefault

from pfedmoap.backbone.clip import FrozenCLIP
from pfedmoap.errors import MethodError
from pfedmoap.gradients import Privatizer
from pfedmoap.training import Training
from pfedmoap.types import Arrays, ClientId, Download, Update

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


@dataclass(frozen=True)
class Setting(Generic[B]):
    """What every method is given about the task, all of it public or the server's own.

    Attributes:
        backbone: The frozen model, the same on every client.
        class_names: C names in label order.
        training: How clients train locally.
        templates: Hand-written prompts for zero-shot classification, each with one ``{}``.
        seed: Seed of everything random in the method and in training.
        server_data: Labelled examples that the server holds, if any; no client's.
    """

    backbone: B
    class_names: tuple[str, ...]
    training: Training
    templates: tuple[str, ...] = ("a photo of a {}.",)
    seed: int = 0
    server_data: ClientData | None = None


@dataclass(frozen=True)
class ClientTask:
    """All that one client has in hand when its round begins.

    Attributes:
        download: What the server sent.
        local: What this client kept from its last round; ``None`` the first time.
        data: Its training data.
    """

    download: Download
    local: Arrays | None
    data: ClientData


@dataclass(frozen=True)
class ClientResult:
    """What one client has in hand when its round ends.

    Attributes:
        update: What it uploads.
        local: What it keeps.
        costs: What the round cost it outside the federation, e.g. queries to somebody's model, by
            name; for the log, not for the server.
        lasting: Of ``local``, the arrays that it keeps even where its update is refused, e.g. a
            bill that has been paid whatever came of it. All else that it trained is then dropped:
            these join what it kept before, and are alone where that was nothing.
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
        """Whether an uploaded tensor may have a shape.

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


class Method(Protocol[S]):
    """A federated prompt learning method; S is the type of its server state."""

    @property
    def setting(self) -> Setting:
        """The task."""
        ...

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn; otherwise one empty round is recorded."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Kinds of image features it needs; see `FrozenCLIP.features`."""
        ...

    @property
    def uploads(self) -> Mapping[str, ArraySpec]:
        """The only arrays that an Update may hold, with what is expected of each."""
        ...

    def init(self) -> S:
        """The server's state before the first round."""
        ...

    def plan(self, state: S, cohort: Sequence[ClientId], round: int) -> list[Download]:
        """Decide what goes down to each client, from the state at the end of the last round."""
        ...

    def train(self, tasks: Sequence[ClientTask], privatizer: Privatizer) -> list[ClientResult]:
        """Train a cohort of clients, each on its own data; one client is a cohort of one."""
        ...

    def aggregate(self, state: S, updates: Sequence[Update]) -> S:
        """Fold admitted updates, sorted by client id, into a new state."""
        ...

    def predict(self, download: Download, local: Arrays | None, features: Arrays) -> Prediction:
        """Classify with one client's personal model.

        Args:
            download: What the server would send this client now.
            local: What the client kept; ``None`` for a client that never took part.
            features: By kind, (B, ...).
        """
        ...

    def predict_global(self, state: S, features: Arrays) -> Prediction | None:
        """Classify with the server's model; ``None`` where the method has none."""
        ...

    def to_arrays(self, state: S) -> Arrays:
        """All of the server's state as named tensors."""
        ...

    def from_arrays(self, arrays: Arrays) -> S:
        """Inverse of `to_arrays`."""
        ...


AnyMethod = Method[Any]  # for code that hands the state through without looking inside


def with_server_data(method: AnyMethod, data: ClientData) -> AnyMethod:
    """Give a method what the server holds; every method is a dataclass with a ``setting``."""
    anything: Any = method  # the protocol does not speak of fields
    made: AnyMethod = replace(anything, setting=replace(anything.setting, server_data=data))
    return made


def method_classes() -> dict[str, type[AnyMethod]]:
    """Find every method: each file of ``pfedmoap/methods/`` exports one class as ``METHOD``.

    Returns:
        Classes by name; the name is the file's.
    """
    package = importlib.import_module("pfedmoap.methods")
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"pfedmoap.methods.{info.name}")
        if hasattr(module, "METHOD"):
            found[info.name] = module.METHOD
    return dict(sorted(found.items()))


def method_class(name: str) -> type[AnyMethod]:
    """Look a method up by name.

    Raises:
        MethodError: There is no such method; the message lists those there are.
    """
    found = method_classes()
    if name not in found:
        raise MethodError(f"no method {name!r}; there are: {', '.join(found)}")
    return found[name]
