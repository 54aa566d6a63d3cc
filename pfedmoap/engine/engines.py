"""Where the clients of a round train: in this process, or in batches side by side on many GPUs."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch

from pfedmoap.client.privatizer import Privatizer
from pfedmoap.config.bounds import Count, NotNegative, check_options
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask
from pfedmoap.data.decoding import cores
from pfedmoap.engine.flower.places import INSTALL
from pfedmoap.engine.flower.room import Room, per_gpu
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import ClientId

Train = Callable[[AnyMethod, Sequence[ClientTask], Privatizer], Sequence[ClientResult]]
"""Trains a round's clients, wherever that is."""


def train_here(
    method: AnyMethod, tasks: Sequence[ClientTask], privatizer: Privatizer
) -> Sequence[ClientResult]:
    """Train a round's clients in this process; implements `Train`."""
    return method.train(tasks, privatizer)


class Recipe(Protocol):
    """Makes a run's method and privatizer anew in another process, to which it is pickled."""

    def __call__(self) -> tuple[AnyMethod, Privatizer]:
        """Make both. The privatizer has no ledgers: it takes the steps that it is handed over."""
        ...


class Engine(Protocol):
    """Where clients train; the result depends on it by rounding at most."""

    def start(
        self, method: AnyMethod, data: Mapping[ClientId, ClientData], recipe: Callable[[], Recipe]
    ) -> AbstractContextManager[Train]:
        """Get ready to train, and clean up at the end.

        Args:
            method: The run's method.
            data: Training data by client.
            recipe: Finds what makes the method in other processes; asked for where there are any.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Train in this process, one batch of clients after the other."""

    def start(
        self, method: AnyMethod, data: Mapping[ClientId, ClientData], recipe: Callable[[], Recipe]
    ) -> AbstractContextManager[Train]:
        """See `Engine`."""
        del method, data, recipe
        return nullcontext(train_here)


@dataclass(frozen=True)
class FlowerSimulation:
    """Train batches of clients side by side, in actors of Flower's simulation, which runs on Ray.

    Attributes:
        num_actors: Processes that train, on this machine; none takes as many as its cores and GPUs
            suffice for.
        num_cpus: CPU cores of each actor.
        num_gpus: GPUs of each actor, as Ray counts them: with 0.5, two actors share a GPU, and its
            memory.
        address: Ray cluster that runs already, e.g. ``auto`` or ``HOST:6379``; none starts Ray on
            this machine, for this run alone.
    """

    num_actors: Count | None = None
    num_cpus: Count = 1
    num_gpus: NotNegative = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        check_options(self, "engine")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ConfigError(
                f"engine.num_gpus is {self.num_gpus:g}: an actor has a part of one GPU, or whole "
                "ones"
            )
        if self.address is not None and self.num_actors is not None:
            raise ConfigError(
                "engine.num_actors is for Ray on this machine; on a cluster (engine.address) there "
                "are as many actors as engine.num_cpus and engine.num_gpus leave room for"
            )

    def start(
        self, method: AnyMethod, data: Mapping[ClientId, ClientData], recipe: Callable[[], Recipe]
    ) -> AbstractContextManager[Train]:
        """See `Engine`. Ray starts with the first round; a run that is complete needs none.

        Raises:
            ConfigError: Flower is not installed, or there is no room for the actors.
        """
        if find_spec("flwr") is None or find_spec("ray") is None:
            raise ConfigError(f"--engine flower needs Flower and Ray: {INSTALL}")
        device = method.setting.backbone.device
        if device.type == "cuda" and not self.num_gpus:
            raise ConfigError(
                "engine.num_gpus is 0, so that actors would have no GPU, and backbone.device is "
                f"{device}: give each one --engine.num_gpus 1, or a part, or set --device cpu"
            )
        size = method.setting.training.clients_per_batch
        batches = len(data) if size == "auto" else math.ceil(len(data) / size)
        actors = None if self.address is not None else min(self._fitting(), batches)
        from pfedmoap.engine.flower.actors import actors_training

        room = Room(actors, self.num_cpus, float(self.num_gpus), self.address)
        return actors_training(room, method, data, recipe)

    def _fitting(self) -> int:
        """How many actors there will be on this machine."""
        here, gpus = cores(), torch.cuda.device_count()
        by_gpu = math.inf
        if self.num_gpus > 1:
            by_gpu = gpus // int(self.num_gpus)
        elif self.num_gpus:
            by_gpu = gpus * per_gpu(self.num_gpus)
        most = min(by_gpu, self.num_actors or here // self.num_cpus)
        if most < (self.num_actors or 1):
            raise ConfigError(
                f"engine: {self.num_actors or 1} actors with {self.num_cpus} CPU cores and "
                f"{self.num_gpus:g} GPUs each do not fit on this machine, which has {here} cores "
                f"and {gpus} GPUs: lower engine.num_actors, num_cpus or num_gpus"
            )
        return int(most)


ENGINES: Mapping[str, type] = {"local": Local, "flower": FlowerSimulation}
