"""What a simulation's actors have of a machine or cluster; nothing here needs Ray."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Room:
    """What there is to train with.

    Attributes:
        actors: How many there are; ``None`` for as many as a cluster has room for.
        num_cpus: CPU cores of each.
        num_gpus: GPUs of each.
        address: The cluster; ``None`` for a Ray of our own.
    """

    actors: int | None
    num_cpus: int
    num_gpus: float
    address: str | None = None

    @property
    def each(self) -> dict[str, int | float]:
        """What Flower asks Ray for, for each actor."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}

    def of_ray(self, place: Path) -> dict[str, Any]:
        """How Ray is started, or joined.

        Args:
            place: Where it keeps its files.
        """
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address is not None or self.actors is None:
            return {"address": self.address, **quiet}
        gpus = int(self.actors * self.num_gpus)
        if 0 < self.num_gpus < 1:
            gpus = math.ceil(self.actors / per_gpu(self.num_gpus))
        return {
            "address": "local",
            "num_cpus": self.actors * self.num_cpus,
            "num_gpus": gpus,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(place),
            **quiet,
        }


def per_gpu(share: float) -> int:
    """How many actors that take a share of a GPU fit on one; 1e-9 covers what 1/3 lacks."""
    return max(1, int(1 / share + 1e-9))
