"""Real processes on loopback, with TLS and keys, give what the engine in this process gives."""

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from eval.deployment.certificates import make_keys
from eval.deployment.running import join
from eval.deployment.site_options import SiteOptions
from eval.ledgers import read_statements
from eval.results import read_result
from pfedmoap.engine.flower.links import free_port
from pfedmoap.engine.flower.places import Address
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.deployed import CLASSES, OPTIONS, command, digits_of, left_over, wait_for
from tests.helpers.federations import Machines, assert_same_as_in_one_process
from tests.helpers.places import ROOT

ROUNDS = 2


@pytest.fixture
def machines(tmp_path):
    made = Machines(tmp_path, f"127.0.0.1:{free_port()}")
    make_keys(made.folder, ["127.0.0.1"], ["site-a", "site-b", "site-c", "site-d"])
    yield made
    assert left_over(tmp_path) == []


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
def test_a_trusted_server_adds_the_noise_and_tells_nobody_who_counted(machines):
    """Sites that trust no server sit out; the others' plain updates meet noise at the server."""
    machines.options = (
        *("--method", "promptfl", "--privacy", "central", "--privacy.noise_multiplier", "20"),
        *("--track", "csv"),
    )
    with ExitStack() as stack:
        server = stack.enter_context(
            machines.serve(2, "--min_clients", "2", "--wait_seconds", "900")
        )
        wait_for(machines.root / "serve.log", "serving at", [server])
        stack.enter_context(machines.join("site-c", None, "--max_epsilon", "1"))
        for name in ("site-a", "site-b"):
            stack.enter_context(machines.join(name))
        wait_for(machines.root / "site-c.log", "does not take part", [server])
        server.wait(500)
        assert server.returncode == 0, (machines.root / "serve.log").read_text()
    run = RunDirectory(machines.folder / "run")
    assert [record["cohort"] for record in run.metrics()] == [[0, 1], [0, 1]]
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        told = json.loads(line)
        told = told.get("record", told)
        assert told["cohort"] == told["traffic"] == []
        assert "accuracy" not in told
    rows = (run.path / "tracking/csv/rounds.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["round", "1", "2"]
    assert read_statements(run.path / "ledgers")
    # Clipped uploads move the mean by less than 1 a round; the noise is not so modest.
    assert float(run.load().server["context"].norm()) > 10
    assert not (machines.root / "site-a" / "ledgers").exists()


@pytest.mark.deployment
@pytest.mark.parametrize(
    ("mark", "fewer", "sites"),
    [
        ("tutorial", {}, 3),
        # A site for each domain in place of three: twelve take minutes to start on two cores.
        ("twelve sites", {"per_domain 3": "per_domain 1", "clients 12": "clients 4"}, 4),
    ],
)
def test_the_pages_commands_run_as_they_are_written(mark, fewer, sites, tmp_path):
    page = (ROOT / "docs" / "federation.md").read_text()
    block = re.search(rf"<!-- {mark} -->\n```bash\n(.*?)```", page, re.DOTALL)[1]
    for written, changed in {"8443": str(free_port()), "rounds 10": "rounds 3", **fewer}.items():
        block = block.replace(written, changed)
    for number, domain in enumerate(("art", "clip art", "photo", "sketch")):
        digits_of(number, tmp_path / "photographs" / domain, classes=4)
    for listed in (tmp_path / "photographs").glob("*.txt"):
        listed.unlink()
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
    assert "Global model" in (tmp_path / "federation.html").read_text()
    result = read_result(tmp_path / "federation" / "run")
    assert (result.clients, result.last.round) == (sites, 3)
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
