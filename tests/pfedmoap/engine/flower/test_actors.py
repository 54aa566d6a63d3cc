"""Flower's simulation on a real Ray: the same files as a run in one process, and nothing left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pfedmoap.engine.flower.ray_room import LONGEST_PLACE
from tests.helpers.places import ROOT

pytestmark = pytest.mark.deployment

OPTIONS = [
    *("--partition.name", "dirichlet", "--partition.clients", "5", "--partition.alpha", "0.5"),
    *("--sampling.shots", "3", "--method.context_length", "2", "--training.epochs", "1"),
    *("--training.learning_rate", "0.1", "--device", "cpu", "--quiet", "true"),
]
FLOWER = ["--engine", "flower", "--engine.num_actors", "2"]
DPSGD = ["--privacy", "dpsgd", "--privacy.insecure_seed", "3", "--privacy.noise_multiplier", "2"]


@pytest.fixture
def folder():
    """A place with a short name, since Ray's sockets are below it."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    assert len(str(made)) <= LONGEST_PLACE
    yield made
    shutil.rmtree(made)


def start(folder, out, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["TMPDIR"] = str(folder)  # what is left there is seen below
    places = ["--features.cache", str(folder / "cache"), "--out", str(folder / out)]
    with (folder / f"{out}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "eval.cli", "train", *OPTIONS, *places, *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
        )


def train(folder, out, *words):
    process = start(folder, out, *words)
    log = folder / f"{out}.log"
    assert process.wait(300) == 0, log.read_text()[-3000:]
    return folder / out


def of_ray(folder):
    """Processes of Ray that were started from here, by the environment that they inherited."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"TMPDIR={folder}".encode() in environment or str(folder) in name:
            found[int(process.name)] = name
    return found


def ended(folder, seconds):
    until = time.monotonic() + seconds
    while left := of_ray(folder):
        if time.monotonic() > until:
            return list(left.values())
        time.sleep(0.5)
    return []


def contents(run):
    """All that decides something: each file's bytes, and the metrics without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in [name for name in line if name.endswith("_seconds")]:
            del line[name]
    names = ("config.json", "privacy.json", "task.json")
    files = {name: (run / name).read_bytes() for name in names}
    for file in sorted([*run.glob("**/*.safetensors"), *run.glob("**/per_client.csv")]):
        files[str(file.relative_to(run))] = file.read_bytes()
    return lines, files


def test_a_run_goes_on_with_another_engine_to_the_same_files(folder):
    more = ["--training.clients_per_batch", "1"]
    here = train(folder, "here", "--rounds.rounds", "3", *more)
    train(folder, "there", "--rounds.rounds", "2", *more, *FLOWER)
    there = train(folder, "there", "--rounds.rounds", "3", *more, "--resume")
    assert contents(there) == contents(here)
    assert ended(folder, 10) == []
    assert not list(folder.glob("pfedmoap-*")), "Ray's files are gone"


def test_private_runs_in_actors_have_the_same_noise_and_ledgers(folder):
    more = ["--method", "promptfl", "--rounds.rounds", "2", *DPSGD]
    here, there = train(folder, "here", *more), train(folder, "there", *more, *FLOWER)
    assert contents(there) == contents(here)
    ledgers = sorted((here / "ledgers").glob("*.json"))
    assert len(ledgers) == 5
    for file in ledgers:
        assert (there / "ledgers" / file.name).read_bytes() == file.read_bytes()
    assert ended(folder, 10) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_in_a_batch_leaves_no_actor(folder, number):
    process = start(folder, "run", "--training.epochs", "100000", *FLOWER)
    try:
        until = time.monotonic() + 200
        while not any("ClientAppActor.run" in name for name in of_ray(folder).values()):
            assert process.poll() is None, (folder / "run.log").read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(60) in (143, -number)
    finally:
        process.kill()
        process.wait()
    # Where everything is killed, Ray's agents give up after minutes; actors must not wait so long.
    seconds = 15 if number == signal.SIGTERM else 30
    until = time.monotonic() + seconds
    while left := [name for name in of_ray(folder).values() if "Agent" not in name]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
    if number == signal.SIGTERM:
        assert ended(folder, 10) == []
        assert "interrupted (SIGTERM)" in (folder / "run.log").read_text()
    for helper in of_ray(folder):
        with suppress(ProcessLookupError):
            os.kill(helper, signal.SIGKILL)
