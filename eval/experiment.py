"""From a configuration to an experiment: the one place where all parts are put together."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from eval.accuracy import ClientScore, evaluate
from eval.choices import training_schema
from eval.holdout import class_part, domain_part, refuse_test_only, unseen_clients
from eval.planning import check_privacy, planned_training, refuse_what_it_lacks
from eval.promise import is_private
from pfedmoap.client.privatizer import PlannedTraining, Privatizer
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import NeedsServerData
from pfedmoap.contract.method import AnyMethod, with_server_data
from pfedmoap.contract.privacy_options import PrivacyOptions
from pfedmoap.contract.tasks import ClientData
from pfedmoap.contract.unread_options import refuse_unread_options
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Federation, build_federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.data.suitability import warn_of_few
from pfedmoap.engine.simulation import FederationState
from pfedmoap.methods.made import make_method
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.wire.messages import ClientId

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """A configuration with its loaded data, method and privacy options.

    Attributes:
        config: The configuration.
        federation: The clients and their data.
        method: The method.
        privacy: Makes the privatizer.
        unseen: Clients that are held out from all training.
    """

    config: Config
    federation: Federation
    method: AnyMethod
    privacy: PrivacyOptions
    unseen: frozenset[ClientId] = frozenset()

    def test(self, now: FederationState[Any]) -> tuple[ClientScore, ...]:
        """Test every client after a round; see `evaluate`.

        Tuning for inference has no noise, since its result never leaves the client.
        """
        return evaluate(self.method, now, self.federation, unseen=self.unseen, private=self.private)

    @property
    def private(self) -> bool:
        """Whether differential privacy is promised."""
        return is_private(self.config.sections)

    @property
    def trainers(self) -> dict[ClientId, ClientData]:
        """Training data of the clients that train: all but the unseen ones."""
        data = self.federation.training_data
        return {client: own for client, own in data.items() if client not in self.unseen}

    def privatizer(self, ledgers: Path | None) -> Privatizer:
        """Make the privatizer, its noise calibrated for the rounds that a client can take part in.

        Args:
            ledgers: Folder where each client keeps its ledger; ``None`` keeps them in memory.

        Raises:
            PrivacyError: The method has no guarantee under the chosen options.
        """
        return self.privacy.privatizer(self.method, self.planned, ledgers)

    @property
    def planned(self) -> PlannedTraining:
        """The training that a privacy budget has to cover."""
        return planned_training(self.config, self.trainers, self.federation.groups)


@dataclass
class ExperimentLoader:
    """Prepares experiments; what one shares with the previous one is loaded once.

    Only the latest of each part is kept, so that memory does not grow with their number.

    Attributes:
        progress: Show progress bars.
        kept: The latest of each part, beside the options that it was made with.
        others: Data sets that are only tested on, by their options.
    """

    progress: bool = True
    kept: dict[Hashable, tuple[str, Any]] = field(default_factory=dict)  # objects of any kind
    others: dict[str, ImageDataset] = field(default_factory=dict)

    def prepare(self, config: Config, *, to_run: bool = True) -> Experiment:
        """Load the backbone, read and partition the data, and make the method.

        Args:
            config: The resolved configuration.
            to_run: Whether it will be trained, so that what its privacy options refuse is refused
                before an image is encoded.

        Returns:
            The experiment, ready to run.

        Raises:
            PFedMoAPError: Any part of the configuration cannot be satisfied.
        """
        backbone, dataset, method = self.backbone(config), self.dataset(config), self.method(config)
        sampling: Sampling = config.build("sampling")
        seeds: Seeds = config.build("seeds")
        kinds = tuple(method.features)
        private = is_private(config.sections)

        def check(splits: Sequence[ClientSplit]) -> None:
            if to_run:
                check_privacy(config, method, dataset, splits)

        def share_out() -> Federation:
            if to_run:
                warn_of_few(dataset)
            return build_federation(
                dataset,
                config.build("partition"),
                backbone,
                kinds,
                sampling=sampling,
                seeds=seeds,
                features=config.build("features"),
                idle_clients=private,
                progress=self.progress,
                check=check,
            )

        parts = ("backbone", "data", "partition", "sampling", "seeds", "features")
        federation = self._once(config, parts, share_out, kinds, private)
        if federation.server is not None:
            method = with_server_data(method, federation.server)
        if isinstance(method, NeedsServerData):
            refuse_what_it_lacks(method)
        unseen = unseen_clients(federation.clients, sampling.unseen_clients, seeds.partition)
        return Experiment(config, federation, method, config.build("privacy"), unseen)

    def method(self, config: Config) -> AnyMethod:
        """Make the method, without the examples that its server will hold.

        Raises:
            ConfigError: It reads an option that is not given, or its server lacks data.
        """
        dataset = self.dataset(config)
        backbone, names = self.backbone(config), dataset.class_names
        method = make_method(config, backbone, names, dataset.templates)
        refuse_unread_options(method)
        if isinstance(method, NeedsServerData) and not config.build("sampling").server_shots:
            refuse_what_it_lacks(method)
        return method

    def backbone(self, config: Config) -> FrozenCLIP | FrozenLM:
        """Load the backbone, or return the one that is loaded."""
        options: BackboneOptions = config.build("backbone")
        return self._once(config, ("backbone",), options.load_any)

    def dataset(self, config: Config) -> ImageDataset:
        """Read the classes of the data set that are used, or return the one that is loaded."""
        sampling: Sampling = config.build("sampling")

        def read() -> ImageDataset:
            dataset = class_part(config.build("data").read(), sampling.classes)
            refuse_test_only(dataset)
            if sampling.left_out_domain is None:
                return dataset
            return domain_part(dataset, sampling.left_out_domain, left_out=False)

        return self._once(config, ("data", "sampling"), read)

    def other_dataset(self, section: Mapping[str, Any]) -> ImageDataset:
        """Read a data set that is only tested on, or return it if it is read already.

        Args:
            section: Its options, with its ``name``, as in the section ``data``.

        Raises:
            PFedMoAPError: An option is wrong, or the data cannot be read.
        """
        options = json.dumps(section, sort_keys=True)
        if options not in self.others:
            config = training_schema().resolve({"data": section})
            self.others[options] = config.build("data").read()
        return self.others[options]

    def _once(
        self, config: Config, sections: tuple[str, ...], make: Callable[[], T], *more: Hashable
    ) -> T:
        options = json.dumps([config.sections[name] for name in sections], sort_keys=True)
        key = (sections, more)
        if key not in self.kept or self.kept[key][0] != options:
            self.kept.pop(key, None)  # release the old one before the new one is made
            self.kept[key] = (options, make())
        found: T = self.kept[key][1]
        return found
