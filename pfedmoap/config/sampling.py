"""Sections that every configuration has: which data are trained with, and the seeds."""

from dataclasses import dataclass
from typing import Literal

from pfedmoap.config.bounds import Count, Decay, Whole


@dataclass(frozen=True)
class Seeds:
    """Separate seeds, so that one source of randomness can be varied alone.

    Attributes:
        partition: Which client gets which images.
        few_shot: Which images are the few shots.
        training: Initial prompt and gate, cohorts, batches.
    """

    partition: int = 0
    few_shot: int = 0
    training: int = 0


@dataclass(frozen=True)
class Sampling:
    """Which images, classes and clients are trained with.

    Attributes:
        shots: Training images for each class (and domain) over all clients; none takes all.
        classes: ``base`` trains and tests on the first half of the classes, so that the other
            half can show how the result carries over to new ones.
        unseen_clients: Clients held out from all training, to test what newcomers get.
        server_shots: Training images for each class (and domain) that the server holds and no
            client has; for methods whose server trains.
        groups: If the data name the person of each image: ``together`` gives all training images
            of a person to one client, ``split`` leaves them where the partition puts them.
        left_out_domain: Domain that no client has any image of, so that the test images of it show
            how the clients' models carry over to a new one; none leaves all of them in.
        validation: Share of each client's training images that is held out and tested on, in
            place of its test images, which such a run never uses: to choose options by.
    """

    shots: Count | None = None
    classes: Literal["all", "base"] = "all"
    unseen_clients: Whole = 0
    server_shots: Whole = 0
    groups: Literal["together", "split"] = "together"
    validation: Decay = 0.0
    left_out_domain: str | None = None
