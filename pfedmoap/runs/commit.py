"""Reading and replacing a run's manifests; a divided run has a public one and the whole one."""

from dataclasses import replace
from pathlib import Path

from pfedmoap.errors import RunError
from pfedmoap.runs.folder import read_object, refuse_lost_manifest
from pfedmoap.runs.layout import MARK, PRIVATE_TASK, Layout
from pfedmoap.runs.log import checksums_of
from pfedmoap.runs.manifest import FILE, PREVIOUS, Manifest, read_manifest, write_manifest
from pfedmoap.storage.digests import sha256


def layout_of(run: Path) -> Layout:
    """Return a run's layout; its task says whether it has a private part."""
    file = run / "task.json"
    return Layout(run, file.exists() and MARK in read_object(file))


def current_manifest(run: Path) -> Manifest:
    """Read the manifest of the last complete round; an empty one where there is none.

    Raises:
        RunError: It is lost or damaged.
    """
    shown = read_manifest(run)
    if shown is None:
        refuse_lost_manifest(run)
        return Manifest()
    if shown.round > 0 and "task.json" in shown.sha256:  # it says whether there is a private part
        read_object(run / "task.json", shown.sha256["task.json"])
    layout = layout_of(run)
    part = layout.unchecked_private_part
    if not layout.divided or not part.is_dir():
        return shown
    whole = read_manifest(part)
    if whole is None and shown.round > 0:
        raise RunError(
            f"{part / FILE} is missing: without it nobody knows which state is whole. Nothing "
            "was touched. Restore it from a copy, or start anew in another folder"
        )
    return whole or shown


def commit(layout: Layout, manifest: Manifest) -> None:
    """Replace a run's manifest; in a divided run the private one decides."""
    write_manifest(layout.part, manifest, private=layout.divided)
    if layout.divided:
        show(layout, manifest)


def show(layout: Layout, manifest: Manifest) -> None:
    """Replace the public manifest of a divided run."""
    files = (*manifest.sha256, *manifest.lines)
    public = {name for name in files if not layout.is_private(name)}
    write_manifest(layout.run, manifest.shown(public))


def keep_previous(layout: Layout, manifest: Manifest) -> None:
    """Keep the manifest of the last round until the running one is complete and the next begins."""
    write_manifest(layout.part, manifest, PREVIOUS, private=layout.divided)


def previous_files(layout: Layout) -> frozenset[str]:
    """State files that a repair could fall back to."""
    try:
        before = read_manifest(layout.part, PREVIOUS)
    except RunError:  # of no use to a repair either
        return frozenset()
    return frozenset() if before is None else before.files


def with_checksums(layout: Layout, manifest: Manifest) -> Manifest:
    """Add the current files' checksums to the manifest of an earlier version."""
    places = {file: layout.where(file) for file in sorted(manifest.files)}
    places |= {name: layout.run / name for name in ("config.json", "task.json", PRIVATE_TASK)}
    return replace(
        manifest,
        sha256={name: sha256(file.read_bytes()) for name, file in places.items() if file.exists()},
        lines=checksums_of(layout.run, manifest.round),
    )
