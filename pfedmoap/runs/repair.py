"""What can be saved of a damaged run: the last round whose state is whole, and its whole log lines.

Nothing that is damaged is deleted: it is moved into a folder ``damaged`` of the run, or of its
private part. State is never guessed: a run of which no round is whole is left as it is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.checkpoint import read_named
from pfedmoap.runs.checksums import check_content, sha256_of_line
from pfedmoap.runs.client_states import open_rows, open_states
from pfedmoap.runs.commit import commit, layout_of
from pfedmoap.runs.folder import read_object, refuse_links
from pfedmoap.runs.layout import PRIVATE, PRIVATE_TASK, Layout
from pfedmoap.runs.log import METRICS, PRIVATE_METRICS, line_of
from pfedmoap.runs.manifest import CLIENT, FILE, PREVIOUS, Manifest, read_manifest
from pfedmoap.storage.atomic_files import write_bytes
from pfedmoap.storage.locks import locked_folder
from pfedmoap.wire.messages import ClientId

DAMAGED = "damaged"
_NEEDED = ("config.json", "task.json", PRIVATE_TASK)
_TABLES = ("per_client.csv", "privacy.json", "generalisation.json")


@dataclass(frozen=True)
class Repair:
    """What was found and done.

    Attributes:
        round: The round that the run is at now.
        found: What was damaged, one sentence each; empty for a whole run, which stays as it is.
        lost_lines: Names of logs by the rounds whose lines are lost.
        aside: Where damaged files are now.
    """

    round: int
    found: Sequence[str]
    lost_lines: Sequence[str]
    aside: Sequence[Path]


def repair(run: Path) -> Repair:
    """Save what can be saved.

    Args:
        run: The run's folder; no other process may write to it.

    Raises:
        RunError: It is no run, or nothing of its rounds is whole. Nothing was changed.
    """
    if not (run / FILE).exists() and not (run / PREVIOUS).exists():
        raise RunError(f"{run} is no run: it has neither {FILE} nor {PREVIOUS}")
    refuse_links(run)
    with locked_folder(run):
        return _repair(run)


def _repair(run: Path) -> Repair:
    layout = Layout(run, (run / PRIVATE / FILE).exists()) if _lost(run) else layout_of(run)
    found: list[str] = []
    broken: list[Path] = []
    chosen = None
    for name in (FILE, PREVIOUS):
        try:
            manifest = read_manifest(layout.part, name)
        except RunError as error:
            found.append(str(error))
            broken.append(layout.part / name)
            continue
        if manifest is None:
            continue
        bad = _broken_states(layout, manifest, found)
        broken += [file for file in bad if file.exists()]
        if not bad:
            chosen = manifest
            break
    if chosen is None:
        raise RunError(
            f"nothing of {run} can be saved, and nothing was changed: "
            + "; ".join(_first_sentence(each) for each in found)
            + ". Restore these files from a copy, or start anew in another folder"
        )
    _refuse_broken_options(run, chosen)
    later = found != []
    sums = dict(chosen.sha256)
    for name in _TABLES:
        file = layout.where(name)
        if file.exists() and (later or not _is_whole(file, sums.get(name))):
            found += [] if later else [f"{file} is damaged"]
            broken.append(file)
            sums.pop(name, None)
    lines, lost = dict(chosen.lines), []
    rewritten: dict[Path, bytes] = {}
    for name in (METRICS, PRIVATE_METRICS):
        whole, dropped = _sorted_lines(run / name, chosen, name)
        missing = len(chosen.lines.get(name, ())) - len(whole)
        if missing > 0 or dropped:
            found.append(f"{run / name}: {len(dropped)} lines are damaged or of dropped rounds")
            broken.append(run / name)
            rewritten[run / name] = b"".join(line + b"\n" for line in whole)
            if name in lines:
                lines[name] = tuple(sha256_of_line(line_of(line)) for line in whole)
        if missing > 0:
            lost.append(f"{missing} of {len(chosen.lines[name])} in {name}")
    if not _shown_is_whole(layout):
        found.append(f"{run / FILE} is damaged; it is made again from the private one")
        broken.append(run / FILE)
    aside = [_move_aside(run, file) for file in dict.fromkeys(broken)]
    for file, content in rewritten.items():
        write_bytes(file, content, private=PRIVATE in file.relative_to(run).parts)
    if found:
        commit(layout, replace(chosen, sha256=sums, lines=lines))
    return Repair(chosen.round, found, lost, aside)


def _lost(run: Path) -> bool:
    try:
        layout_of(run)
    except RunError:
        return True
    return not (run / "task.json").exists()


def _broken_states(layout: Layout, manifest: Manifest, found: list[str]) -> list[Path]:
    """Read all states that a manifest names; says what is broken in ``found``."""
    broken = []
    owners: dict[str, ClientId | None] = {file: client for client, file in manifest.clients.items()}
    if manifest.server is not None:
        owners[manifest.server] = None
    for file in (*sorted(owners), *manifest.rows, *manifest.shards):
        try:
            if file in owners:
                read_named(layout, manifest, file, owners[file])
            elif file in manifest.rows:
                open_rows(layout, replace(manifest, rows=(file,))).check()
            else:
                open_states(layout, replace(manifest, shards=(file,), clients={})).check()
        except RunError as error:
            found.append(str(error))
            broken.append(layout.where(file))
    return broken


def _refuse_broken_options(run: Path, manifest: Manifest) -> None:
    for name in _NEEDED:
        if name in manifest.sha256 or name != PRIVATE_TASK:
            try:
                read_object(run / name, manifest.sha256.get(name))
            except RunError as error:
                raise RunError(
                    f"{run / name} is missing or damaged, and cannot be made from anything else; "
                    "nothing was changed. Restore it from a copy"
                ) from error


def _is_whole(file: Path, checksum: str | None) -> bool:
    try:
        check_content(file, file.read_bytes(), checksum)
    except RunError:
        return False
    return True


def _shown_is_whole(layout: Layout) -> bool:
    try:
        return not layout.divided or read_manifest(layout.run) is not None
    except RunError:
        return False


def _sorted_lines(file: Path, manifest: Manifest, name: str) -> tuple[list[bytes], list[bytes]]:
    """Divide a log's lines into those that were written up to a round, and all others."""
    raw = file.read_bytes().split(b"\n") if file.exists() else []
    raw = raw[:-1] if raw and not raw[-1] else raw
    expected = list(manifest.lines.get(name, ()))
    whole: list[bytes] = []
    dropped: list[bytes] = []
    for line in raw:
        try:
            record = line_of(line)
        except ValueError:
            dropped.append(line)
            continue
        if not manifest.sealed:
            (whole if record["round"] <= manifest.round else dropped).append(line)
        elif (digest := sha256_of_line(record)) in expected:
            del expected[: expected.index(digest) + 1]  # lines have an order
            whole.append(line)
        else:
            dropped.append(line)
    return whole, dropped


def _move_aside(run: Path, file: Path) -> Path:
    """Move a file into the folder of damaged ones of its part, under its own name or a new one."""
    parts = file.relative_to(run).parts
    base = run / PRIVATE if parts[0] == PRIVATE else run
    inner = file.relative_to(base)
    name = "-".join(part for part in inner.parts if CLIENT.fullmatch(part) or part == inner.name)
    folder = base / DAMAGED
    folder.mkdir(mode=0o700, exist_ok=True)
    target, number = folder / name, 1
    while target.exists():
        target, number = folder / f"{name}.{number}", number + 1
    os.rename(file, target)
    return target


def _first_sentence(text: str) -> str:
    return text.split(". ")[0]
