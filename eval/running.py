"""Running an experiment to its last round, and reading a finished run back."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.accuracy import ClientScore, record
from eval.actors import recipe_of
from eval.choices import schema
from eval.client_csv import write_client_csv
from eval.data_of_run import (
    has_its_data_at_sites,
    located,
    refuse_changes,
    refuse_trained,
    remembered,
    report_changes,
)
from eval.erasure_record import erased_clients
from eval.experiment import Experiment, ExperimentLoader
from eval.progress import round_progress
from eval.promise import is_private
from eval.refused import refuse_if_all_refused
from pfedmoap.client.privatizer import Privatizer
from pfedmoap.config.schema import Config
from pfedmoap.contract.predicting import KeepsFeatures
from pfedmoap.engine.engines import Engine, Local
from pfedmoap.engine.simulation import FederationState, Listener, Progress, run_federation
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.extension import extend
from pfedmoap.runs.folder import claimed, held
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import write_json


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        final: State of server and clients after the last round.
        scores: One score for each client, of the last round.
    """

    final: FederationState[Any]  # the state's type is the method's own
    scores: tuple[ClientScore, ...]


def train_into(
    out: Path,
    config: Config,
    loader: ExperimentLoader,
    *,
    resume: bool = False,
    announce: Callable[[Record], None] = lambda _: None,
    listen: Listener = lambda *_: None,
) -> tuple[Experiment, Outcome]:
    """Train a configuration into a folder: what `train` does, in a terminal and from Python.

    Args:
        out: The run directory.
        config: The resolved configuration.
        loader: Loads what it names; shows progress bars or not.
        resume: See `run_experiment`, as for the rest.
        announce: Called with the statement of privacy.
        listen: Called with each round's record.

    Returns:
        The experiment and its outcome.

    Raises:
        PFedMoAPError: The folder cannot be used, the data of a run that is continued changed, or
            any part of the configuration cannot be satisfied.
    """
    there = claimed(out)  # a folder that cannot be used is refused before any image is encoded
    if resume and there is not None and there.round > 0:
        refuse_changes(RunDirectory(out), loader.dataset(config))
    experiment = loader.prepare(config)
    outcome = run_experiment(
        experiment,
        out,
        resume=resume,
        progress=loader.progress,
        announce=announce,
        listen=listen,
    )
    return experiment, outcome


def run_experiment(
    experiment: Experiment,
    out: Path | None,
    *,
    resume: bool = False,
    progress: bool = True,
    watch: Progress | None = None,
    announce: Callable[[Record], None] = lambda _: None,
    listen: Listener = lambda *_: None,
) -> Outcome:
    """Train to the last round and test every client.

    Args:
        experiment: What to run.
        out: The run directory; ``None`` keeps nothing on disk.
        resume: Continue a run that is there already.
        progress: Show a progress bar.
        watch: Called after each round in place of the bar.
        announce: Called with the statement of privacy before the first round.
        listen: Called with each round's record; see `run_federation`.

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
            if resume:
                gone = erased_clients(out)
                experiment = replace(experiment, unseen=experiment.unseen | gone)
        return _run(experiment, out, resume, progress, watch, announce, listen)


def _run(
    experiment: Experiment,
    out: Path | None,
    resume: bool,
    progress: bool,
    watch: Progress | None,
    announce: Callable[[Record], None],
    listen: Listener,
) -> Outcome:
    config, method, federation = experiment.config, experiment.method, experiment.federation
    privatizer = experiment.privatizer(None if out is None else out / "ledgers")
    rounds, run = config.build("rounds"), None
    if out is not None:
        task = federation.describe() | {"backbone": method.setting.backbone.fingerprint}
        task |= remembered(config.sections, federation, out)
        if resume:
            extend(out, dict(config.sections), task)
        run = RunDirectory.create(
            out, dict(config.sections), task, resume=resume, divided=is_private(config.sections)
        )
        write_json(run.path / "privacy.json", privatizer.describe())
    announce(privatizer.describe())
    shown = progress and watch is None
    tested: dict[int, tuple[ClientScore, ...]] = {}

    def test(now: FederationState[Any], last: bool) -> tuple[ClientScore, ...]:
        # What a run ends with is what `evaluate` finds, and what a run finds that was killed
        # behind its last round and goes on.
        if last and isinstance(method, KeepsFeatures):
            method.release_features()
        return experiment.test(now)

    def observe(now: FederationState[Any]) -> dict[str, Any]:
        tested.clear()
        tested[now.round] = test(now, now.round == rounds.rounds)
        return record(tested[now.round])

    def told(record: Record, last: int) -> None:
        line(record, last)
        listen(record, last)

    with round_progress(config.name("method"), shown=shown) as (advance, line):
        final = train_rounds(
            experiment,
            privatizer,
            run=run,
            observe=observe,
            progress=watch or advance,
            listen=told,
        )
    scores = tested.get(final.round) or test(final, True)
    if run is not None:
        refuse_if_all_refused(run.metrics())
        write_client_csv(run.layout.where("per_client.csv"), scores, private=run.divided)
        run.finish("per_client.csv", "privacy.json")
    return Outcome(final, scores)


def train_rounds(
    experiment: Experiment,
    privatizer: Privatizer,
    *,
    run: RunDirectory | None = None,
    observe: Callable[[FederationState[Any]], Record] = lambda _: {},
    progress: Progress = lambda *_: None,
    listen: Listener = lambda *_: None,
) -> FederationState[Any]:
    """Train an experiment to its last round, where its configuration says: here or in actors.

    Args:
        experiment: What to train.
        privatizer: How gradients are formed.
        run: See `run_federation`, as for the rest.
        observe: Evaluates the federation.
        progress: Called after each round.
        listen: Called with each round's record.

    Returns:
        The federation after its last round.
    """
    config, trainers = experiment.config, experiment.trainers
    engine: Engine = config.build("engine") if "engine" in config.apart else Local()
    with engine.start(experiment.method, trainers, lambda: recipe_of(experiment)) as train:
        return run_federation(
            experiment.method,
            trainers,
            config.build("rounds"),
            config.build("seeds").training,
            privatizer,
            run=run,
            observe=observe,
            progress=progress,
            listen=listen,
            train=train,
        )


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
        RunError: The run is damaged or has no complete round, its data changed so that images
            that it was trained on would be tested on, or they are at a federation's sites.
    """
    if has_its_data_at_sites(run.task):
        raise RunError(
            f"the data of {run.path} and its personal models are at the sites that trained it: "
            "each tests its own, and `pfedmoap report` shows what they sent"
        )
    config = schema().resolve(located(run, root))
    dataset = loader.dataset(config)
    report_changes(run, dataset)
    refuse_trained(run, dataset)
    experiment = loader.prepare(config, to_run=False)
    if experiment.method.setting.backbone.fingerprint != run.task["backbone"]:
        raise RunError(f"{run.path} was trained with other backbone weights than those loaded now")
    saved = run.load()
    if saved is None:
        raise RunError(f"{run.path} has no complete round yet; continue it with --resume")
    state = experiment.method.from_arrays(saved.server)
    return experiment, FederationState(saved.round, state, saved.local_states)
