"""Files for containers, as far as they can be checked without building: there is no registry here.

The Dockerfile's instructions are parsed, and what they copy and run is there; each service of
compose.yaml runs its command in this process, with its volumes at their places, up to the network.
"""

import json
import re
import subprocess
import threading
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from eval.cli import COMMANDS
from eval.commands import example_sites, join, make_keys, serve
from eval.deployment import running
from tests.helpers.places import ROOT

KNOWN = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
SITES = ("site-a", "site-b", "site-c")
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def instructions():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in joined]


def of_kind(kind):
    return [rest for word, rest in instructions() if word == kind]


def test_the_image_is_made_of_what_is_there_and_what_is_sent_to_the_builder():
    assert {word for word, _ in instructions()} <= KNOWN
    assert instructions()[0][0] == "FROM"
    assert not of_kind("FROM")[0].endswith((":latest", "python")), "a version is named"
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored, "nothing else is sent: neither runs nor keys"
    copied = set()
    for rest in of_kind("COPY"):
        *names, target = rest.split()
        assert len(names) == 1 or target.endswith("/"), "several files go into a folder"
        copied.update(names)
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [project["project"]["readme"], *project["project"]["license-files"]]
    needed += [name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]]
    assert set(needed) <= copied


def test_its_commands_are_of_a_shell_and_name_files_that_are_copied():
    at = {name: row for row, (word, rest) in enumerate(instructions()) for name in rest.split()}
    for row, (word, rest) in enumerate(instructions()):
        if word == "RUN":
            assert subprocess.run(["sh", "-nc", rest], check=False).returncode == 0, rest
            named = [word for word in rest.split() if word.endswith(".lock")]
            assert all(at[name] <= row and (ROOT / name).exists() for name in named)
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    [pattern] = re.findall(r"sed -n '(s/.*?/p)'", " ".join(of_kind("RUN")))
    torch = subprocess.run(
        ["sed", "-n", pattern], input="\n".join(lines), text=True, capture_output=True, check=True
    ).stdout.split()
    assert [re.sub("==.*", "", line) for line in torch] == ["torch", "torchvision"]
    assert all(any(line.startswith(one) for line in lines) for one in torch)
    [entry], [default] = of_kind("ENTRYPOINT"), of_kind("CMD")
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(entry)[0] in script
    assert json.loads(default) == ["--help"]
    assert of_kind("USER")[-1] not in ("root", "0")
    owned = " ".join(of_kind("RUN"))
    assert re.search(r"mkdir -p /data/site .*chown -R pfedmoap /data", owned), "volumes start so"


def test_services_are_complete_and_a_site_gets_its_own_key_alone():
    services = COMPOSE["services"]
    assert set(services) == {"server", *SITES}
    for name, service in services.items():
        assert (ROOT / "deploy" / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()
        assert service["command"][0] in COMMANDS
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        keys = [volume for volume in service["volumes"] if ".key" in volume]
        own = f"./federation/private/{name}.key:/credentials/{name}.key:ro"
        assert name == "server" or keys == [own]
        named = [v.split(":")[0] for v in service["volumes"] if not v.startswith("./")]
        assert set(named) <= set(COMPOSE["volumes"])
    port = services["server"]["ports"][0].split(":")[-1]
    assert f"--address=0.0.0.0:{port}" in services["server"]["command"]
    assert all(f"--server=server:{port}" in services[site]["command"] for site in SITES)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """What the comment in compose.yaml says to do before."""
    comment = (ROOT / "deploy" / "compose.yaml").read_text().split("x-site")[0]
    commands = re.findall(r"#   pfedmoap (\S+) (.*)", comment)
    assert [name for name, _ in commands] == ["example-sites", "make-keys"]
    folder = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for (_, words), command in zip(commands, (example_sites, make_keys), strict=True):
            command.main(words.split())
    return folder


def words_of(name, machine):
    """A service's command with the paths of its volumes as they are on this machine."""
    mounted = dict(
        volume.removesuffix(":ro").rsplit(":", 1)[::-1]
        for volume in COMPOSE["services"][name]["volumes"]
    )
    inside = machine / "inside" / name
    for target, source in mounted.items():
        place = inside / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.startswith("./"):
            assert (machine / source).exists(), source
            place.symlink_to(machine / source)
        else:
            place.mkdir()
    _, *words = COMPOSE["services"][name]["command"]
    return [re.sub(r"^(--\w+)=/", rf"\1={inside}/", word) for word in words]


def test_the_server_starts_with_its_volumes(machine, monkeypatch):
    started = []
    monkeypatch.setattr(
        running, "run_deployed", lambda served, listening, *_: started.append((served, listening))
    )
    serve.main([*words_of("server", machine), "--device", "cpu"])
    [(served, listening)] = started
    assert served.file.min_clients == len(SITES)
    assert len(served.file.class_names) == 10
    assert (listening.address.host, listening.address.port) == ("0.0.0.0", 8443)
    assert listening.certificates.key.exists()
    assert len(list(listening.sites.glob("*.pub"))) == len(SITES)


@pytest.mark.parametrize("site", SITES)
def test_a_site_joins_with_its_volumes(site, machine, monkeypatch):
    joined = []
    monkeypatch.setattr(running, "join", lambda *given: joined.append(given))
    join.main(words_of(site, machine))
    [(folder, server, key, _, stop)] = joined
    assert isinstance(stop, threading.Event)
    assert (server.host, server.port) == ("server", 8443)
    assert fnmatch(str(key), f"*/{site}.key")
    assert key.exists()
    assert server.root.exists()
    kept = json.loads((Path(folder) / "site.json").read_text())
    assert kept["name"] == site
    assert Path(kept["data"]).is_dir()
    assert kept["server_key"] == (machine / "federation" / "server.pub").read_text()
