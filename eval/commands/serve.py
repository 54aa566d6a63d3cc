"""``serve``: be the server of a federation whose sites are on machines of their own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.choices import schema
from eval.commands.errors import readable_errors
from eval.console import say
from eval.deployment.certificates import certificates_in
from eval.deployment.federation_file import FILE, RUN, FederationFile, names_in, new_id
from eval.tracking.choose import HELP as TRACK_HELP
from eval.tracking.choose import Tracks
from pfedmoap.config.spelling import written
from pfedmoap.engine.flower.places import Address, Certificates, require_extra
from pfedmoap.errors import ConfigError
from pfedmoap.storage.atomic_files import make_folder


@readable_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Serve to the last round, or go on with a federation; see ``--help``."""
    config, options = schema().parse(
        arguments,
        "Serve a federation of sites; each site joins with `pfedmoap join`. Serving a folder again "
        "goes on with its last complete round; more --rounds.rounds than before extend it.",
        {
            "out": ("runs/federation", "folder of the federation; its run is in the folder run"),
            "classes": ("", "names of all classes, with commas, or a file with one a line"),
            "templates": ("a photo of a {}.", "hand-written prompts for zero-shot, with | between"),
            "address": ("127.0.0.1:8000", "where to listen; 0.0.0.0:8000 for all interfaces"),
            "min_clients": (1, "fewest sites whose updates complete a round"),
            "timeout_seconds": (600.0, "how long to wait for the answers of a round"),
            "wait_seconds": (86400.0, "how long to wait for so many sites to be there"),
            "track": ("", TRACK_HELP),
            "insecure": (False, "neither TLS nor keys of sites: for tests on one machine alone"),
        },
    )
    require_extra()
    tracks = Tracks.of(options["track"])
    from eval.deployment.running import Listening, run_deployed
    from eval.deployment.serving import check_continues, prepare

    folder = Path(options["out"])
    sampling = config.sections["sampling"]
    left: dict[str, object] = {"classes": "all", "unseen_clients": 0, "server_shots": 0}
    left |= {"validation": 0.0, "left_out_domain": None}
    for name, usual in left.items():
        if sampling[name] != usual:
            raise ConfigError(
                f"sampling.{name} is {sampling[name]!r}, but sites have their own data: leave it "
                f"at {written(usual)}"
            )
    asked: dict[str, Any] = {
        "sections": {**config.sections, "data": {"name": "digits"}},
        "min_clients": options["min_clients"],
        "timeout_seconds": options["timeout_seconds"],
        "wait_seconds": options["wait_seconds"],
    }
    if (folder / FILE).exists():
        known = FederationFile.read(folder)
        file = FederationFile(
            known.federation, class_names=known.class_names, templates=known.templates, **asked
        )
        file = _resolved(file)
        check_continues(folder / RUN, file.sections)
    else:
        classes = _classes(options["classes"])
        file = _resolved(
            FederationFile(
                new_id(),
                class_names=classes,
                templates=tuple(options["templates"].split("|")),
                **asked,
            )
        )
    make_folder(folder, 0o700)
    address, certificates = _place(folder, options)
    sites = None if certificates is None else folder / "sites"
    listening = Listening(address, certificates, sites)
    file.write(folder)
    served = prepare(folder)

    def announce(address: str) -> None:
        say(f"serving at {address}: sites join with `pfedmoap join --server {address} ...`")

    def progress(done: int, last: int) -> None:
        say(f"round {done} of {last}")

    with tracks.told(served.run, name=folder.resolve().name) as told:
        run_deployed(served, listening, announce, progress, told)
    say(f"run directory: {served.run}")


def _resolved(file: FederationFile) -> FederationFile:
    return replace(file, sections=dict(schema().resolve(file.sections).sections))


def _classes(given: str) -> tuple[str, ...]:
    names = names_in(given)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"--classes has {len(names)} names; give at least two different ones, with commas, or "
            "a file with one a line: the server publishes them, and sites' folders are named so"
        )
    return names


def _place(folder: Path, options: dict[str, Any]) -> tuple[Address, Certificates | None]:
    host, _, port = options["address"].rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--address must be HOST:PORT, got {options['address']!r}")
    if options["insecure"]:
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigError(f"--insecure is for this machine alone, not for {host}")
        return Address(host, int(port)), None
    certificates = certificates_in(folder)
    if not certificates.root.exists():
        raise ConfigError(
            f"{certificates.root} is missing: make a certificate and the sites' keys with "
            f"`pfedmoap make-keys --out {folder} --hosts ... --sites ...`"
        )
    return Address(host, int(port), certificates.root), certificates
