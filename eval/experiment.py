"""From a configuration to a finished run: constructs all parts and runs them."""

import json
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from eval.accuracy import ClientScore, evaluate, record
from eval.choices import schema
from eval.client_csv import write_client_csv
from eval.console import progress_bar
from eval.data_of_run import located, refuse_trained, remembered, report_changes
from eval.holdout import class_part, unseen_clients
from eval.planning import check_privacy, planned_training, refuse_what_it_lacks
from eval.promise import is_private
from eval.refused import refuse_if_all_refused
from pfedmoap.client.privatizer import PlannedTraining, Privatizer
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import NeedsServerData
from pfedmoap.contract.method import AnyMethod, with_server_data
from pfedmoap.contract.privacy_options import PrivacyOptions
from pfedmoap.contract.tasks import ClientData, Setting
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.data.federation import Federation, build_federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.engine.simulation import FederationState, Progress, run_federation
from pfedmoap.errors import RunError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.loading import BackboneOptions
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import held
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import write_json
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


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        final: State of server and clients after the last round.
        scores: One score for each client, of the last round.
    """

    final: FederationState[Any]  # the state's type is the method's own
    scores: tuple[ClientScore, ...]


@dataclass
class ExperimentLoader:
    """Prepares experiments; what one shares with the previous one is loaded once.

    Only the latest of each part is kept, so that memory does not grow with their number.

    Attributes:
        progress: Show progress bars.
        kept: The latest of each part, beside the options that it was made with.
    """

    progress: bool = True
    kept: dict[Hashable, tuple[str, Any]] = field(default_factory=dict)  # objects of any kind

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
        backbone, dataset = self.backbone(config), self.dataset(config)
        sampling: Sampling = config.build("sampling")
        seeds: Seeds = config.build("seeds")
        setting = Setting(
            backbone=backbone,
            class_names=dataset.class_names,
            training=config.build("training"),
            templates=dataset.templates,
            seed=seeds.training,
        )
        method: AnyMethod = config.build("method", setting=setting)
        if isinstance(method, NeedsServerData) and not sampling.server_shots:
            refuse_what_it_lacks(method)
        kinds = tuple(method.features)
        private = is_private(config.sections)

        def check(splits: Sequence[ClientSplit]) -> None:
            if to_run:
                check_privacy(config, method, dataset, splits)

        def share_out() -> Federation:
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

    def backbone(self, config: Config) -> FrozenCLIP | FrozenLM:
        """Load the backbone, or return the one that is loaded."""
        options: BackboneOptions = config.build("backbone")
        return self._once(config, ("backbone",), options.load_any)

    def dataset(self, config: Config) -> ImageDataset:
        """Read the classes of the data set that are used, or return the one that is loaded."""
        part = config.build("sampling").classes
        return self._once(
            config, ("data", "sampling"), lambda: class_part(config.build("data").read(), part)
        )

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


def run_experiment(
    experiment: Experiment,
    out: Path | None,
    *,
    resume: bool = False,
    progress: bool = True,
    watch: Progress | None = None,
    announce: Callable[[Record], None] = lambda _: None,
) -> Outcome:
    """Train to the last round and test every client.

    Args:
        experiment: What to run.
        out: The run directory; ``None`` keeps nothing on disk.
        resume: Continue a run that is there already.
        progress: Show a progress bar.
        watch: Called after each round in place of the bar.
        announce: Called with the statement of privacy before the first round.

    Returns:
        The final state and every client's score.

    Raises:
        RunError: A run is there and ``resume`` is false, or it has another configuration, or
            another process is writing to it, or the server refused every update of every round.
        PrivacyError: The method has no guarantee under the chosen privacy options.
    """
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(held(out))
        return _run(experiment, out, resume, progress, watch, announce)


def _run(
    experiment: Experiment,
    out: Path | None,
    resume: bool,
    progress: bool,
    watch: Progress | None,
    announce: Callable[[Record], None],
) -> Outcome:
    config, method, federation = experiment.config, experiment.method, experiment.federation
    privatizer = experiment.privatizer(None if out is None else out / "ledgers")
    run = None
    if out is not None:
        task = federation.describe() | {"backbone": method.setting.backbone.fingerprint}
        task |= remembered(config.sections, federation, out)
        run = RunDirectory.create(
            out, dict(config.sections), task, resume=resume, divided=is_private(config.sections)
        )
        write_json(run.path / "privacy.json", privatizer.describe())
    announce(privatizer.describe())
    shown = progress and watch is None
    tested: dict[int, tuple[ClientScore, ...]] = {}

    def observe(now: FederationState[Any]) -> dict[str, Any]:
        tested.clear()
        tested[now.round] = experiment.test(now)
        return record(tested[now.round])

    with progress_bar(config.name("method"), shown=shown) as advance:
        final = run_federation(
            method,
            experiment.trainers,
            config.build("rounds"),
            config.build("seeds").training,
            privatizer,
            run=run,
            observe=observe,
            progress=watch or advance,
        )
    scores = tested.get(final.round) or experiment.test(final)
    if run is not None:
        refuse_if_all_refused(run.metrics())
        write_client_csv(run.layout.where("per_client.csv"), scores, private=run.divided)
        run.finish("per_client.csv", "privacy.json")
    return Outcome(final, scores)


def load_outcome(
    run: RunDirectory, loader: ExperimentLoader, root: str | None = None
) -> tuple[Experiment, FederationState[Any]]:
    """Load a run: its experiment and the state of its last complete round.

    Args:
        run: The run.
        loader: Loads what the run's configuration names.
        root: Where the data are, if they have moved.

    Returns:
        The experiment and the federation's state.

    Raises:
        RunError: The run is damaged or has no complete round, or its data changed so that images
            that it was trained on would be tested on.
    """
    config = schema().resolve(located(run, root))
    dataset = loader.dataset(config)
    report_changes(run, dataset)
    refuse_trained(run, dataset)
    experiment = loader.prepare(config, to_run=False)
    if experiment.method.setting.backbone.fingerprint != run.task["backbone"]:
        raise RunError(f"{run.path} was trained with other backbone weights than those loaded now")
    saved = run.load()
    if saved is None:
        raise RunError(f"{run.path} has no complete round yet; continue it with --resume true")
    state = experiment.method.from_arrays(saved.server)
    return experiment, FederationState(saved.round, state, saved.local_states)
