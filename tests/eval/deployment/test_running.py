"""Real processes on loopback, with TLS and keys, give what the engine in this process gives."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import FederationFile
from eval.deployment.host import SiteHost
from eval.deployment.running import join
from eval.deployment.serving import prepare
from eval.deployment.site_options import SiteOptions
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.flower.greeting import welcome_json
from pfedmoap.engine.flower.links import free_port
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.places import Address
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.engine.simulation import run_federation
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.deployed import CLASSES, OPTIONS, command, digits_of, left_over, wait_for
from tests.helpers.places import ROOT

ROUNDS = 2


@dataclass
class Machines:
    """A federation in a folder: its server and its sites, each a process of its own."""

    root: Path
    address: str
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.root / "federation"

    def serve(self, rounds, *words):
        words = (
            *("serve", "--out", str(self.folder), "--address", self.address),
            *("--classes", ",".join(CLASSES), "--rounds.rounds", str(rounds)),
            *("--rounds.evaluate_every", "2", "--wait_seconds", "300"),
            *("--timeout_seconds", "30", *OPTIONS, *self.options, *words),
        )
        return command(self.root / "serve.log", *words)

    def join(self, name, credentials=None, *words):
        words = (
            *("join", "--server", self.address, "--name", name, "--device", "cpu"),
            *("--data", str(self.data(name)), "--folder", str(self.root / name)),
            *("--credentials", str(credentials or self.folder), *words),
        )
        return command(self.root / f"{name}.log", *words)

    def data(self, name):
        place = self.root / "data" / name
        return place if place.exists() else digits_of(ord(name[-1]) - ord("a"), place)

    def sites(self, *names):
        return {name: self.root / name for name in names}


@pytest.fixture
def machines(tmp_path):
    made = Machines(tmp_path, f"127.0.0.1:{free_port()}")
    make_keys(made.folder, ["127.0.0.1"], ["site-a", "site-b", "site-c", "site-d"])
    yield made
    assert left_over(tmp_path) == []


@pytest.mark.deployment
def test_kills_of_a_site_and_of_the_server_leave_no_trace(machines):
    """A stranger tries to take part meanwhile; a third site comes when the run is extended."""
    log, needs_two = machines.root / "serve.log", ("--min_clients", "2")
    make_keys(machines.root / "stranger", ["127.0.0.1"], ["site-x"])
    with ExitStack() as stack:
        server = stack.enter_context(machines.serve(4, *needs_two))
        wait_for(log, "serving at", [server])
        first = stack.enter_context(machines.join("site-a"))
        second = stack.enter_context(machines.join("site-b"))
        stack.enter_context(machines.join("site-x", machines.root / "stranger"))
        wait_for(log, "round 1 of 4", [server, first, second])
        second.kill()
        second.wait()
        stack.enter_context(machines.join("site-b"))
        wait_for(log, "round 2 of 4", [server, first])
        server.kill()
        server.wait()
        again = stack.enter_context(machines.serve(4, *needs_two))
        again.wait(400)
        assert again.returncode == 0, log.read_text()
        assert_same_as_in_one_process(machines.folder, machines.sites("site-a", "site-b"))
        assert "ended" in (machines.root / "site-x.log").read_text(), "its certificate is another's"
        stack.enter_context(machines.join("site-c"))
        longer = stack.enter_context(machines.serve(6, "--min_clients", "3"))
        longer.wait(400)
        assert longer.returncode == 0, log.read_text()
    records = RunDirectory(machines.folder / "run").metrics()
    assert [len(record["cohort"]) for record in records] == [2, 2, 2, 2, 3, 3]
    assert "site-x" not in Members.read(machines.folder).by_name


@pytest.mark.deployment
@pytest.mark.parametrize(
    "options",
    [
        ("--method", "pfedmoap"),
        ("--method", "promptfl"),
        ("--method", "pfpt"),
        ("--method", "pfedmoap", "--privacy", "dpsgd", "--privacy.insecure_seed", "3"),
    ],
    ids=["pfedmoap", "promptfl", "pfpt", "private"],
)
def test_four_sites_train_five_rounds_as_in_one_process(machines, options):
    machines.options = options
    names = ("site-a", "site-b", "site-c", "site-d")
    with ExitStack() as stack:
        server = stack.enter_context(machines.serve(5, "--min_clients", "4"))
        wait_for(machines.root / "serve.log", "serving at", [server])
        for name in names:
            data = str(machines.data(name))
            site = SiteOptions(name, data, device="cpu", insecure_seed=True)
            site.write(machines.root / name)
            stack.enter_context(machines.join(name))
        server.wait(500)
        assert server.returncode == 0, (machines.root / "serve.log").read_text()
    assert_same_as_in_one_process(machines.folder, machines.sites(*names))


@pytest.mark.deployment
def test_the_tutorial_runs_as_it_is_written(tmp_path):
    page = (ROOT / "docs" / "federation.md").read_text()
    block = re.search(r"<!-- tutorial -->\n```bash\n(.*?)```", page, re.DOTALL)[1]
    block = block.replace("8443", str(free_port()))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-euc", "set -m\n" + block],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "round 3 of 3" in ended.stdout
    assert (tmp_path / "federation.html").exists()
    assert left_over(tmp_path) == []


def test_two_sites_with_keys_train_as_in_one_process(tmp_path):
    folder, names = tmp_path / "federation", ("site-a", "site-b")
    make_keys(folder, ["127.0.0.1"], names)
    where = Address("127.0.0.1", free_port(), folder / "ca.pem")
    serve = [
        *("serve", "--out", str(folder), "--classes", ",".join(CLASSES), "--address", where.text),
        *("--rounds.rounds", str(ROUNDS), "--rounds.evaluate_every", str(ROUNDS)),
        *("--min_clients", "2", "--timeout_seconds", "120", "--wait_seconds", "300", *OPTIONS),
    ]
    log = tmp_path / "serve.log"
    with ExitStack() as stack:
        server = stack.enter_context(command(log, *serve))
        wait_for(log, "serving at", [server])
        stop, pool = threading.Event(), stack.enter_context(ThreadPoolExecutor())
        stack.callback(stop.set)
        for number, name in enumerate(names):
            data = digits_of(number, tmp_path / name / "data")
            key = (folder / "server.pub").read_text()
            SiteOptions(name, str(data), device="cpu", server_key=key).write(tmp_path / name)
            private = folder / "private" / f"{name}.key"
            pool.submit(join, tmp_path / name, where, private, lambda: None, stop)
        server.wait(400)
        assert server.returncode == 0, log.read_text()
    assert left_over(tmp_path) == []
    assert_same_as_in_one_process(folder, {name: tmp_path / name for name in names})


def assert_same_as_in_one_process(folder, sites):
    """Train on the sites' own features in this process, and compare all that came of it."""
    served = prepare(folder)
    members = Members.read(folder)
    welcome = welcome_json(served.welcome(Signer.kept_in(folder / "server.key")))
    data: dict[int, ClientData] = {}
    hosts = {}
    for name, place in sites.items():
        client = members.by_name[name].client
        hosts[client] = SiteHost(place, SiteOptions.read(place))
        assert hosts[client].hello(welcome)["refused"] is None
        data[client] = hosts[client].site(served.file.federation, client).data
    rounds = served.config.build("rounds")
    expected = run_federation(served.method, data, rounds, 0, served.privatizer)
    run = RunDirectory(folder / "run")
    found = run.load()
    for name, array in served.method.to_arrays(expected.state).items():
        assert torch.equal(found.server[name], array), name
    accuracy = run.metrics()[-1].get("accuracy", {})
    downloads = served.method.plan(expected.state, sorted(data), rounds.rounds + 1)
    for download in downloads:
        client = download.client
        place = sites[members.named(client)] / "federations" / served.file.federation
        state = SiteState(place, client).load(rounds.rounds)
        for name, array in expected.local_states[client].items():
            assert torch.equal(state[name], array), name
        site = hosts[client].site(served.file.federation, client)
        scores = site.scores(download, expected.local_states[client])
        assert served.private or scores["accuracy"] == accuracy[str(client)]
    assert FederationFile.read(folder).class_names == CLASSES
