"""Predict for many clients in one call: models side by side, images padded, answers in order.

Methods need none of it: `predictions` asks a method without `CanPredictTogether` client by client.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Prediction
from pfedmoap.wire.messages import Arrays, ClientId, Download

IMAGES = 1024
"""Images whose features are held at once, about."""

MODELS = 256
"""Clients whose states are held at once, at most."""


@dataclass(frozen=True)
class PredictionTask:
    """Images to classify with one client's model.

    Attributes:
        download: What the server would send this client now.
        local: What the client kept; ``None`` for a client that never took part.
        features: By kind, (B, ...).
    """

    download: Download
    local: Arrays | None
    features: Arrays

    @property
    def images(self) -> int:
        """Number of images B."""
        return len(next(iter(self.features.values())))


@runtime_checkable
class CanPredictTogether(Protocol):
    """A method that classifies for many clients in one call.

    It counts only where nothing below the class that defines it replaces ``predict``.
    """

    def predict_together(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """Answer as `Method.predict` does, up to rounding, in the order of the tasks."""
        ...


@runtime_checkable
class KeepsFeatures(Protocol):
    """A method whose evaluation reads features that the training of the same round has made.

    They were encoded beside others, so that they agree only up to rounding with those that are
    encoded anew from a stored state.
    """

    def release_features(self) -> None:
        """Keep none: the next evaluation gives the figures of a stored state, to the last bit."""
        ...


@runtime_checkable
class CanPlanForNewcomers(Protocol):
    """A method whose clients classify with what they hold, so that only newcomers need a plan.

    It counts only where nothing below the class that defines it replaces ``plan`` or ``predict``.
    """

    def plan_to_predict(
        self,
        state: Any,  # of the method's own type
        clients: Sequence[ClientId],
        round: int,
        new: frozenset[ClientId],
    ) -> list[Download]:
        """Make downloads that clients classify with as with those of `Method.plan`.

        Args:
            state: The server's state.
            clients: Whose models are asked.
            round: The next round.
            new: Those of them that hold nothing, who classify with what they are sent.

        Returns:
            One download a client, in the order of ids.
        """
        ...


def predictions(method: AnyMethod, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
    """Classify with the models of many clients.

    Args:
        method: The method.
        tasks: Whose models see which images; read some at a time.

    Returns:
        One answer a task, in their order.
    """
    if isinstance(method, CanPredictTogether) and written_for(
        method, "predict_together", "predict"
    ):
        return method.predict_together(tasks)
    return (method.predict(task.download, task.local, task.features) for task in tasks)


def plan_to_predict(
    method: AnyMethod,
    state: Any,  # of the method's own type
    clients: Sequence[ClientId],
    round: int,
    newcomers: frozenset[ClientId],
) -> list[Download]:
    """Plan what clients classify with; see `CanPlanForNewcomers`, which a method may lack."""
    door = "plan_to_predict"
    if isinstance(method, CanPlanForNewcomers) and written_for(method, door, "plan", "predict"):
        return method.plan_to_predict(state, clients, round, newcomers)
    return method.plan(state, clients, round)


def written_for(method: AnyMethod, door: str, *replaced: str) -> bool:
    """Whether another form of a method's functions was written for those that it has.

    Args:
        method: The method.
        door: The other form, such as ``predict_together``.
        replaced: What it stands for; names that the method lacks do not count.

    Returns:
        False where a class below the one that defines the form replaces one of them.
    """
    owner = _definer(type(method), door)
    known = [name for name in replaced if hasattr(method, name)]
    return all(issubclass(owner, _definer(type(method), name)) for name in known)


def _definer(kind: type, name: str) -> type:
    return next((each for each in kind.__mro__ if name in vars(each)), kind)


@dataclass(frozen=True)
class ManyModels:
    """How a method classifies with many models at once.

    Attributes:
        kinds: Kinds of features that it reads.
        device: Where it computes.
        classify: From K tasks, one a model, and their images by kind, (K, B, ...), to logits
            (K, B, C) and attention (K, B, C, E), if there is any. Rows of zeros may fill a model's
            images up; their answers are dropped.
        model: Tasks of equal keys have the same model, whose images are classified in one go; by
            default every task has its own.
        form: Models of different forms are never in one call.
        at_most: Models in one call, by the form of theirs.
        experts: Whose prompts the attention of a task is about.
    """

    kinds: tuple[str, ...]
    device: torch.device
    classify: Callable[[Sequence[PredictionTask], Arrays], tuple[Tensor, Tensor | None]]
    model: Callable[[PredictionTask], Hashable] = id
    form: Callable[[PredictionTask], Hashable] = lambda _: 0
    at_most: Callable[[PredictionTask], int] = lambda _: 64
    experts: Callable[[PredictionTask], tuple[ClientId, ...]] = lambda _: ()

    @torch.no_grad()
    def predict(self, tasks: Iterable[PredictionTask]) -> Iterator[Prediction]:
        """Answer all tasks, in their order, on the CPU.

        Args:
            tasks: Any number, each with at least one image; read some at a time.
        """
        for window in _windows(tasks):
            found: dict[int, Prediction] = {}
            for rows in self._batches(window):
                found |= self._answer(window, rows)
            yield from (found[row] for row in range(len(window)))

    def _batches(self, window: Sequence[PredictionTask]) -> Iterator[list[list[int]]]:
        """Sort tasks into calls: models of one form, each with about as many images."""
        models: dict[tuple[Hashable, Hashable], list[int]] = {}
        for row, task in enumerate(window):
            models.setdefault((self.form(task), self.model(task)), []).append(row)
        groups: dict[tuple[Hashable, int], list[list[int]]] = {}
        for (form, _), rows in models.items():
            images = sum(window[row].images for row in rows)
            groups.setdefault((form, (images - 1).bit_length()), []).append(rows)
        for group in groups.values():
            size = max(1, self.at_most(window[group[0][0]]))
            for start in range(0, len(group), size):
                yield group[start : start + size]

    def _answer(
        self, window: Sequence[PredictionTask], models: Sequence[Sequence[int]]
    ) -> dict[int, Prediction]:
        """Run one call; ``models`` says which tasks of the window each model answers."""
        sizes = [[window[row].images for row in rows] for rows in models]
        features = {
            kind: self._padded(
                [[window[row].features[kind] for row in rows] for rows in models],
                max(map(sum, sizes)),
            )
            for kind in self.kinds
        }
        logits, attention = self.classify([window[rows[0]] for rows in models], features)
        logits = logits.cpu()
        attention = None if attention is None else attention.cpu()
        found = {}
        for place, (rows, images) in enumerate(zip(models, sizes, strict=True)):
            start = 0
            for row, count in zip(rows, images, strict=True):
                part = slice(start, start + count)
                weights = None if attention is None else attention[place, part]
                own = self.experts(window[row])
                found[row] = Prediction(logits[place, part], weights, own)
                start += count
        return found

    def _padded(self, images: Sequence[Sequence[Tensor]], most: int) -> Tensor:
        """Put the images of K models into one array (K, most, ...), and move it once."""
        first = images[0][0]
        shape = (len(images), most, *first.shape[1:])
        together = torch.zeros(shape, dtype=first.dtype, pin_memory=self.device.type == "cuda")
        for place, parts in zip(together, images, strict=True):
            torch.cat(list(parts), out=place[: sum(map(len, parts))])
        return together.to(self.device, non_blocking=True)


def with_one_model(
    tasks: Iterable[PredictionTask],
    model: Callable[[PredictionTask], Hashable],
    predict: Callable[[Download, Arrays | None, Arrays], Prediction],
    kinds: Sequence[str],
) -> Iterator[Prediction]:
    """Classify all images of one model in one call, for methods whose clients share it.

    Args:
        tasks: Whose models see which images.
        model: Tasks of equal keys have the same model; neighbours among them are asked at once.
        predict: See `Method.predict`; its answers must not depend on the images beside one.
        kinds: Kinds of features that it reads.

    Yields:
        One answer a task, in their order.
    """
    for window in _windows(tasks):
        for _, group in groupby(window, key=model):
            alike = list(group)
            first = alike[0]
            seen = {kind: torch.cat([task.features[kind] for task in alike]) for kind in kinds}
            logits = predict(first.download, first.local, seen).logits.cpu()
            yield from map(Prediction, logits.split([task.images for task in alike]))


def _windows(tasks: Iterable[PredictionTask]) -> Iterator[list[PredictionTask]]:
    """Cut into runs of about `IMAGES` images."""
    window: list[PredictionTask] = []
    size = 0
    for task in tasks:
        window.append(task)
        size += task.images
        if size >= IMAGES or len(window) == MODELS:
            yield window
            window, size = [], 0
    if window:
        yield window


@dataclass(frozen=True)
class _InPlace:
    """Where tensors lie. It keeps them alive: memory that is free again is soon another's."""

    places: Hashable
    arrays: Arrays = field(compare=False, repr=False)


def same_arrays(arrays: Arrays) -> Hashable:
    """A key that is equal for the same tensors in the same memory, as a broadcast sends them."""
    places = ((n, value.data_ptr(), value.shape, value.stride()) for n, value in arrays.items())
    return _InPlace(tuple(places), arrays)


def sent_arrays(task: PredictionTask) -> Hashable:
    """The same, of what a client was sent."""
    return same_arrays(task.download.arrays)
