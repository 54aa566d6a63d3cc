"""What a run plans, and what is refused before an image is encoded because of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from eval.holdout import unseen_clients
from eval.logs import muted
from eval.promise import is_private
from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import NeedsServerData
from pfedmoap.contract.method import AnyMethod
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import owners_of
from pfedmoap.data.splits import ClientSplit
from pfedmoap.errors import ConfigError
from pfedmoap.wire.messages import ClientId


def planned_training(
    config: Config, trainers: Iterable[ClientId], groups: Mapping[ClientId, Tensor] | None
) -> PlannedTraining:
    """The training that a privacy budget has to cover.

    Args:
        config: The resolved configuration.
        trainers: The clients that train.
        groups: Whose each of their examples is, (n,) by client, where the data say it.
    """
    training, rounds = config.build("training"), config.build("rounds")
    clients, seed = tuple(sorted(trainers)), config.build("seeds").training
    return PlannedTraining(
        rounds.rounds,
        training.epochs,
        training.batch_size,
        groups=groups,
        rounds_of_a_client=rounds.most_of_one_client(clients, seed),
        clients=clients,
        participation=rounds.participation,
        local_steps=training.local_steps,
    )


def training_of_splits(
    config: Config, dataset: ImageDataset, splits: Sequence[ClientSplit]
) -> PlannedTraining:
    """The same, once it is known which images are whose, and before one is encoded.

    Args:
        config: The resolved configuration.
        dataset: The data.
        splits: The clients' images.
    """
    sampling, seeds = config.build("sampling"), config.build("seeds")
    everybody = [ClientId(i) for i in range(len(splits))]
    unseen = unseen_clients(everybody, sampling.unseen_clients, seeds.partition)
    return planned_training(config, {*everybody} - unseen, owners_of(dataset, splits))


def refuse_what_it_lacks(method: NeedsServerData) -> None:
    """Refuse a method whose server lacks data.

    Raises:
        ConfigError: It does; the message says which option gives it some.
    """
    if (why := method.lacks()) is not None:
        raise ConfigError(why)


def check_privacy(
    config: Config, method: AnyMethod, dataset: ImageDataset, splits: Sequence[ClientSplit]
) -> None:
    """Make the privatizer once without its ledgers: it refuses now what it would refuse later.

    Args:
        config: The resolved configuration.
        method: The method.
        dataset: The data.
        splits: The clients' images.

    Raises:
        PrivacyError: There is no guarantee, or none that lasts for the plan.
    """
    if not is_private(config.sections):
        return
    options = replace(config.build("privacy"), ledgers=None)
    with muted("privacy"):  # it warns when it is made for the run
        options.privatizer(method, training_of_splits(config, dataset, splits), None)
