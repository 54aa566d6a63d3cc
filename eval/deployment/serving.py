"""The server of a federation: from its folder to the last round, and the run that it leaves."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.accuracy import ClientScore, record
from eval.choices import schema
from eval.client_csv import write_client_csv
from eval.deployment.federation_file import RUN, FederationFile
from eval.erasure_record import confirm, erased_clients
from eval.planning import refuse_what_it_lacks
from eval.promise import is_private
from pfedmoap.client.privatizer import PlannedTraining, Privatizer
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import NeedsServerData
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.unread_options import refuse_unread_options
from pfedmoap.engine.flower.fleet import Fleet
from pfedmoap.engine.flower.greeting import SECTIONS, Welcome
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.remote import RemoteFederation, committed_rounds
from pfedmoap.engine.flower.roll_call import Quorum, RollCall
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.simulation import FederationState, Listener, Progress, run_rounds
from pfedmoap.errors import ConfigError, UpdateRejectedError
from pfedmoap.methods.made import make_method
from pfedmoap.runs.amend import amend
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.extension import extend
from pfedmoap.runs.folder import claimed, held
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.log import Record
from pfedmoap.runs.same_run import refuse_other_run
from pfedmoap.server.admission import LARGEST_COUNT
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.wire.messages import ClientId

logger = logging.getLogger(__name__)
SERVER_KEY = "server.key"


@dataclass(frozen=True)
class Served:
    """A server that is ready to run.

    Attributes:
        folder: The federation's folder.
        file: What its operator decided.
        config: The same, resolved.
        method: The method.
        privatizer: Its server side, and the statement of the guarantee.
        registered: Numbers of all sites whose keys are there, where their number decides on noise.
    """

    folder: Path
    file: FederationFile
    config: Config
    method: AnyMethod
    privatizer: Privatizer
    registered: tuple[ClientId, ...] = ()

    @property
    def private(self) -> bool:
        """Whether differential privacy is promised."""
        return is_private(self.config.sections)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / RUN

    def welcome(self, signer: Signer) -> Welcome:
        """What sites are told first."""
        sections = {name: dict(self.config.sections[name]) for name in SECTIONS}
        sections["backbone"]["device"] = "auto"
        sections["features"] |= {"cache": ""}
        if "ledgers" in sections["privacy"]:
            sections["privacy"]["ledgers"] = None
        return Welcome(
            self.file.federation,
            sections,
            self.file.class_names,
            self.file.templates,
            self.method.setting.backbone.fingerprint,
            signer.public,
        )

    def task(self, members: Members) -> dict[str, Any]:
        """What inference and reports need to know of the data."""
        return {
            "data": f"sites of {self.folder.name}",
            "at_sites": True,  # whoever reads the run must not look for its data here
            "class_names": list(self.file.class_names),
            "templates": list(self.file.templates),
            "domains": [],
            "unreadable": [],
            "backbone": self.method.setting.backbone.fingerprint,
            "clients": [
                {
                    "client": client,
                    "domain": None,
                    "train": list(one.profile.train),
                    "test": list(one.profile.test),
                }
                for client, one in sorted(members.present.items())
            ],
        }


def prepare(folder: Path) -> Served:
    """Load the model and make the method of a federation.

    Raises:
        PFedMoAPError: Its configuration cannot be satisfied.
    """
    file = FederationFile.read(folder)
    config = schema().resolve(file.sections)
    method = make_method(
        config, config.build("backbone").load_any(), file.class_names, file.templates
    )
    refuse_unread_options(method)
    if isinstance(method, NeedsServerData):
        refuse_what_it_lacks(method)
    rounds, training = config.build("rounds"), config.build("training")
    central = config.name("privacy") == "central"
    registered = _registered(folder) if central else ()
    planned = PlannedTraining(
        rounds.rounds,
        training.epochs,
        training.batch_size,
        clients=registered,
        participation=rounds.participation,
        local_steps=training.local_steps,
    )
    options = config.build("privacy")
    if is_private(config.sections) and not central:  # ledgers are the sites'
        options = replace(options, ledgers=None)
    ledgers = folder / RUN / "ledgers" if central else None
    privatizer = options.privatizer(method, planned, ledgers)
    return Served(folder, file, config, method, privatizer, registered)


def _registered(folder: Path) -> tuple[ClientId, ...]:
    """Numbers of the sites that have a key here; they are given from 0 on.

    Raises:
        ConfigError: There are none.
    """
    count = len(list((folder / "sites").glob("*.pub")))
    if not count:
        raise ConfigError(
            f"--privacy central makes its noise for a known number of sites, and {folder / 'sites'}"
            " has no keys: make those of all sites first, with pfedmoap make-keys"
        )
    return tuple(ClientId(number) for number in range(count))


def check_continues(run: Path, sections: Mapping[str, Any]) -> None:
    """Extend a federation's run, or refuse a configuration that is another one's.

    Args:
        run: The run's folder; it may be absent.
        sections: The configuration.

    Raises:
        RunError: It differs in more than its number of rounds.
    """
    extend(run, sections)
    there = claimed(run) if run.exists() else None
    if there is not None and there.round > 0:
        old, divided = RunDirectory(run).config, RunDirectory(run).divided
        refuse_other_run(run, (old, {}), (dict(sections), {}), (divided, divided))


def serve_rounds(
    served: Served,
    fleet: Fleet,
    progress: Progress = lambda *_: None,
    announce: Callable[[Record], None] = lambda _: None,
    listen: Listener = lambda *_: None,
) -> FederationState[Any]:
    """Run a federation from its last complete round to its last one.

    Args:
        served: The server.
        fleet: The nodes.
        progress: Called after each round.
        announce: Called with the statement of privacy, once enough sites are there.
        listen: Called with each round's record.

    Returns:
        The federation after its last round; states of clients are at the sites.

    Raises:
        RunError: Too few sites came or answered. The run goes on when it is served again.
    """
    with held(served.run):
        patient = replace(fleet, timeout_seconds=served.file.timeout_seconds)
        return _serve(served, patient, progress, announce, listen)


def _serve(
    served: Served,
    fleet: Fleet,
    progress: Progress,
    announce: Callable[[Record], None],
    listen: Listener,
) -> FederationState[Any]:
    file, config, method = served.file, served.config, served.method
    rounds, seed = config.build("rounds"), config.build("seeds").training
    signer = Signer.kept_in(served.folder / SERVER_KEY)
    members, layout = Members.read(served.folder), Layout(served.run, served.private)
    roll = RollCall(
        fleet,
        served.welcome(signer),
        signer,
        Quorum(file.min_clients, wait_seconds=file.wait_seconds),
        members,
        changed=lambda now: now.write(served.folder),
        erased=lambda site, states: confirm(layout, site, states, signer),
    )
    remote = RemoteFederation(method, rounds, seed, served.privatizer, roll, served.registered)
    erased_clients(served.run)  # refuses one that was interrupted
    there = claimed(served.run)
    roll.wait(1 if there is None else there.round + 1)
    described = served.task(roll.members)
    if there is not None:
        amend(served.run, task=described)
    run = RunDirectory.create(
        served.run, dict(config.sections), described, resume=True, divided=served.private
    )
    write_json(run.path / "privacy.json", served.privatizer.describe())
    announce(served.privatizer.describe())
    remote.committed.update(committed_rounds(run.metrics()))
    tested: dict[ClientId, ClientScore] = {}

    def observe(now: FederationState[Any]) -> dict[str, Any]:
        found = remote.evaluate(now)
        tested.clear()
        tested.update(client_scores(found))
        return record(tuple(tested[client] for client in sorted(tested))) if tested else {}

    final = run_rounds(
        method,
        rounds,
        served.privatizer,
        remote.step,
        run=run,
        observe=observe,
        progress=progress,
        listen=listen,
    )
    amend(served.run, task=served.task(roll.members))
    if tested:
        scores = tuple(tested[client] for client in sorted(tested))
        write_client_csv(run.layout.where("per_client.csv"), scores, private=run.divided)
    run.finish("per_client.csv", "privacy.json")
    return final


def client_scores(
    found: Mapping[ClientId, Mapping[str, float]],
) -> dict[ClientId, ClientScore]:
    """Make scores of the figures that sites sent; those of which one cannot be are left out."""
    scores: dict[ClientId, ClientScore] = {}
    for client, figures in found.items():
        try:
            scores[client] = client_score(client, figures)
        except UpdateRejectedError as error:
            logger.warning("the figures of client %d do not count: %s", client, error)
    return scores


def client_score(client: ClientId, figures: Mapping[str, float]) -> ClientScore:
    """Make a site's score of the figures that it sent.

    Raises:
        UpdateRejectedError: One is no share, or no number of images.
    """

    def at_most(most: float, name: str, least: float = 0.0) -> float:
        value = float(figures.get(name, least))
        if not least <= value <= most:
            raise UpdateRejectedError(f"{name} is {value:g}, expected {least:g} to {most:g}")
        return value

    return ClientScore(
        client=client,
        domain=None,
        train_images=int(at_most(LARGEST_COUNT, "train_images")),
        test_images=int(at_most(LARGEST_COUNT, "test_images", 1.0)),
        accuracy=at_most(1.0, "accuracy"),
        macro_f1=at_most(1.0, "macro_f1"),
        ece=at_most(1.0, "ece"),
        global_accuracy=at_most(1.0, "global_accuracy") if "global_accuracy" in figures else None,
    )
