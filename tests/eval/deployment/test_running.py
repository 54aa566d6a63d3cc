"""Real processes on loopback, with TLS and keys, give what the engine in this process gives."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import torch

from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import FederationFile
from eval.deployment.host import SiteHost
from eval.deployment.running import join
from eval.deployment.serving import prepare
from eval.deployment.site_options import SiteOptions
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData
from pfedmoap.engine.flower.control import Address
from pfedmoap.engine.flower.greeting import welcome_json
from pfedmoap.engine.flower.links import free_port
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.engine.simulation import run_federation
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.deployed import CLASSES, OPTIONS, command, digits_of, left_over, wait_for

ROUNDS = 2


def test_two_sites_with_keys_train_as_in_one_process(tmp_path):
    folder, names = tmp_path / "federation", ("site-a", "site-b")
    make_keys(folder, ["127.0.0.1"], names)
    where = Address("127.0.0.1", free_port(), folder / "ca.pem")
    serve = [
        *("serve", "--out", str(folder), "--classes", ",".join(CLASSES), "--address", where.text),
        *("--rounds.rounds", str(ROUNDS), "--rounds.evaluate_every", str(ROUNDS)),
        *("--min_clients", "2", "--timeout_seconds", "120", "--wait_seconds", "120", *OPTIONS),
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
        server.wait(200)
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
    expected = run_federation(served.method, data, rounds, 0, NoPrivacy())
    run = RunDirectory(folder / "run")
    found = run.load()
    for name, array in served.method.to_arrays(expected.state).items():
        assert torch.equal(found.server[name], array), name
    accuracy = run.metrics()[-1]["accuracy"]
    downloads = served.method.plan(expected.state, sorted(data), rounds.rounds + 1)
    for download in downloads:
        client = download.client
        place = sites[members.named(client)] / "federations" / served.file.federation
        state = SiteState(place, client).load(rounds.rounds)
        for name, array in expected.local_states[client].items():
            assert torch.equal(state[name], array), name
        site = hosts[client].site(served.file.federation, client)
        scores = site.scores(download, expected.local_states[client])
        assert scores["accuracy"] == accuracy[str(client)]
    assert FederationFile.read(folder).class_names == CLASSES
