"""Changing what a run says of its task or its configuration, at no moment unreadable."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pfedmoap.runs.commit import commit, current_manifest, layout_of
from pfedmoap.runs.layout import PRIVATE_TASK
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.digests import sha256


def amend(
    run: Path, *, task: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
) -> None:
    """Replace a run's ``task.json`` or ``config.json``, or both.

    The manifest first loses the checksums of what is replaced, and then gets the new ones: a kill
    between the two leaves files that are not checked, and the next amendment mends that.

    Args:
        run: The run's folder.
        task: What inference needs of the data; ``None`` leaves it.
        config: The configuration; ``None`` leaves it.
    """
    layout = layout_of(run)
    files: dict[str, bytes] = {}
    if task is not None:
        public, private = layout.task(task)
        files["task.json"] = json_bytes(public)
        if layout.divided:
            files[PRIVATE_TASK] = json_bytes(private)
    if config is not None:
        files["config.json"] = json_bytes(config)
    manifest = current_manifest(run)
    new = {name: sha256(content) for name, content in files.items()}
    if all(manifest.sha256.get(name) == found for name, found in new.items()):
        return
    without = {name: found for name, found in manifest.sha256.items() if name not in new}
    commit(layout, replace(manifest, sha256=without))
    for name, content in files.items():
        write_bytes(run / name, content, private=name == PRIVATE_TASK)
    commit(layout, replace(manifest, sha256={**without, **new}))
