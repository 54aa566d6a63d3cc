"""A federation of processes in a folder, and what has to have come of it."""

import json
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.commands import join
from eval.deployment.federation_file import FederationFile
from eval.deployment.host import SiteHost
from eval.deployment.serving import prepare
from eval.deployment.site_options import SiteOptions
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.flower.greeting import welcome_json
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId
from tests.helpers.deployed import CLASSES, OPTIONS, command, digits_of

Process = AbstractContextManager["subprocess.Popen[bytes]"]


@dataclass
class Machines:
    """A federation in a folder: its server and its sites, each a process of its own."""

    root: Path
    address: str
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.root / "federation"

    def serve(self, rounds: int, *words: str) -> Process:
        words = (
            *("serve", "--out", str(self.folder), "--address", self.address),
            *("--classes", ",".join(CLASSES), "--rounds.rounds", str(rounds)),
            *("--rounds.evaluate_every", "2", "--wait_seconds", "300"),
            *("--timeout_seconds", "30", *OPTIONS, *self.options, *words),
        )
        return command(self.root / "serve.log", *words)

    def join(self, name: str, credentials: Path | None = None, *words: str) -> Process:
        words = (
            *("join", "--server", self.address, "--name", name, "--device", "cpu"),
            *("--data", str(self.data(name)), "--folder", str(self.root / name)),
            *("--credentials", str(credentials or self.folder), *words),
        )
        return command(self.root / f"{name}.log", *words)

    def data(self, name: str) -> Path:
        place = self.root / "data" / name
        return place if place.exists() else digits_of(ord(name[-1]) - ord("a"), place)

    def sites(self, *names: str) -> dict[str, Path]:
        return {name: self.root / name for name in names}

    def meddle(self, name: str, plan: dict[str, str]) -> Process:
        """Run a site that follows a plan; see `tests.helpers.hostile_site`."""
        folder = self.root / name
        words = ("--server", self.address, "--folder", str(folder))
        keys = ("--credentials", str(self.folder))
        prepare = ("--name", name, "--data", str(self.data(name)), "--device", "cpu")
        join.main([*words, *keys, *prepare, "--prepare", "true"])
        module = "tests.helpers.hostile_site"
        log = self.root / f"{name}.log"
        return command(log, *words, *keys, "--plan", json.dumps(plan), module=module)

    def connected(self, name: str) -> Path:
        """Where a site's node says that the server has let it in."""
        return self.root / name / "flower" / "supernode.log"


@dataclass(frozen=True)
class Attended(Rounds):
    """Rounds whose cohorts are known: those whose updates counted in a run.

    Attributes:
        cohorts: Of each round, by its number.
    """

    cohorts: tuple[tuple[ClientId, ...], ...] = ()

    @classmethod
    def of(cls, rounds: Rounds, run: RunDirectory) -> "Attended":
        cohorts = [
            tuple(one for one in record["cohort"] if str(one) not in record["rejected"])
            for record in run.metrics()
        ]
        return cls(**vars(rounds), cohorts=tuple(cohorts))

    def cohort(self, clients: Iterable[ClientId], round: int, seed: int) -> tuple[ClientId, ...]:
        return self.cohorts[round - 1]


def assert_same_as_in_one_process(folder: Path, sites: dict[str, Path]) -> None:
    """Train on the sites' own features in this process, and compare all that came of it.

    A site whose update did not arrive, or did not count, has to have left no trace in a round.
    """
    served = prepare(folder)
    members = Members.read(folder)
    welcome = welcome_json(served.welcome(Signer.kept_in(folder / "server.key")))
    data: dict[ClientId, ClientData] = {}
    hosts: dict[ClientId, SiteHost] = {}
    for name, place in sites.items():
        client = members.by_name[name].client
        options = SiteOptions.read(place)
        assert options is not None
        hosts[client] = SiteHost(place, options)
        assert hosts[client].hello(welcome)["refused"] is None
        data[client] = hosts[client].site(served.file.federation, client).data
    run = RunDirectory(folder / "run")
    rounds = Attended.of(served.config.build("rounds"), run)
    expected = run_federation(served.method, data, rounds, 0, served.privatizer)
    found = run.load()
    for name, array in served.method.to_arrays(expected.state).items():
        assert torch.equal(found.server[name], array), name
    accuracy = run.metrics()[-1].get("accuracy", {})
    last = {
        client: round for round, cohort in enumerate(rounds.cohorts, start=1) for client in cohort
    }
    downloads = served.method.plan(expected.state, sorted(data), rounds.rounds + 1)
    for download in downloads:
        client = download.client
        place = sites[members.named(client)] / "federations" / served.file.federation
        state = SiteState(place, client).load(last[client])
        assert state is not None
        for name, array in expected.local_states[client].items():
            assert torch.equal(state[name], array), name
        site = hosts[client].site(served.file.federation, client)
        scores = site.scores(download, expected.local_states[client])
        assert served.private or scores["accuracy"] == accuracy[str(client)]
    assert FederationFile.read(folder).class_names == CLASSES
