"""The installation and the machine: versions, device, memory, cache."""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

import pfedmoap
from eval.comparison.tables import in_bytes
from eval.doctor.finding import Finding
from pfedmoap.data.feature_cache import contents
from pfedmoap.data.feature_store import cache_folder
from pfedmoap.errors import BackboneError, StorageError
from pfedmoap.models.loading import resolve_device
from pfedmoap.models.memory import free_bytes

LOCK = Path(pfedmoap.__file__).resolve().parents[1] / "requirements.lock"
LITTLE_BYTES = 2**30  # of memory or disk


def look_at_machine(device: str, cache: str) -> Iterator[Finding]:
    """Look at the installation and the machine.

    Args:
        device: The device to use, as ``--backbone.device`` names it.
        cache: Folder of the feature cache.

    Yields:
        What is found.
    """
    python = platform.python_version()
    yield Finding(
        "pfedmoap", "ok", f"{pfedmoap.__version__}, Python {python}, {platform.platform()}"
    )
    yield look_at_versions(requires("pfedmoap") or ())
    if (found := look_at_lock(LOCK)) is not None:
        yield found
    yield _device(device)
    yield look_at_cache(cache)


def look_at_versions(requirements: Iterable[str]) -> Finding:
    """Compare installed versions with the ranges that the package declares.

    Args:
        requirements: As in a wheel's metadata, ``torch>=2.4`` or ``x>=1; extra == "serve"``.
    """
    from packaging.requirements import Requirement  # huggingface_hub, which open_clip needs, has it

    wrong, absent, fine = [], set(), 0
    for line in requirements:
        required = Requirement(line)
        extras = re.findall(r"""extra == ['"]([\w-]+)['"]""", line)
        extra = extras[0] if extras else ""
        if required.marker is not None and not required.marker.evaluate({"extra": extra}):
            continue
        if _canonical(required.name) == "pfedmoap" or extra in ("test", "dev", "docs"):
            continue
        try:
            installed = version(required.name)
        except PackageNotFoundError:
            if extra:
                absent.add(extra)
            else:
                wrong.append(f"{required.name} is missing (needs {required.specifier})")
            continue
        if required.specifier.contains(installed, prereleases=True):
            fine += 1
        else:
            wrong.append(f"{required.name} {installed} is not {required.specifier}")
    without = f"; extras that are not installed: {', '.join(sorted(absent))}" if absent else ""
    if wrong:
        return Finding(
            "versions", "wrong", "; ".join(wrong), "pip install --upgrade pfedmoap, or `make setup`"
        )
    return Finding("versions", "ok", f"{fine} packages within their ranges{without}")


def look_at_lock(lock: Path) -> Finding | None:
    """Compare installed versions with the lock of the repository; ``None`` where there is none."""
    if not lock.is_file():
        return None
    from packaging.markers import Marker

    differing = []
    for line in lock.read_text().splitlines():
        found = re.match(r"([\w.-]+)==(\S+)(?: ; (.*?))? \\$", line)
        if found is None or (found[3] and not Marker(found[3]).evaluate()):
            continue
        try:
            installed = version(found[1])
        except PackageNotFoundError:
            continue  # an extra's, perhaps
        if installed.partition("+")[0] != found[2].partition("+")[0]:
            differing.append(f"{found[1]} {installed} (lock: {found[2]})")
    if not differing:
        return Finding("lock", "ok", "installed packages have the versions of requirements.lock")
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return Finding("lock", "note", f"other versions: {', '.join(differing[:5])}{more}")


def look_at_cache(cache: str) -> Finding:
    """Look at the feature cache: whether it can be written, and its size."""
    name = "feature cache"
    remedy = "name a folder that can be written with --features.cache"
    try:
        folder = cache_folder(cache)
        held = contents(folder)
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, StorageError) as error:
        return Finding(name, "wrong", f"{cache} cannot be written ({error})", remedy)
    free = held.free_bytes
    found = (
        f"{folder}: {len(held.entries)} entries, {in_bytes(held.size_bytes)}"
        f"{'' if free is None else f'; {in_bytes(free)} free'}"
    )
    if free is not None and free < LITTLE_BYTES:
        return Finding(name, "wrong", found, "make room: pfedmoap cache prune --to_size 1GB")
    return Finding(name, "ok", found)


def _device(name: str) -> Finding:
    try:
        device = resolve_device(name)
    except BackboneError as error:
        return Finding("device", "wrong", str(error), "--backbone.device cpu")
    free = free_bytes(device)
    if device.type == "cuda":
        made = torch.cuda.get_device_properties(device)
        found = f"{made.name}, {in_bytes(made.total_memory)} of memory, {in_bytes(free)} free"
        return Finding("device", "ok", f"{device}: {found}; torch {torch.__version__}")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    found = (
        f"{device}, {cores} cores, {torch.get_num_threads()} threads, {in_bytes(free)} of memory "
        f"free; torch {torch.__version__}"
    )
    if free < LITTLE_BYTES:
        return Finding("device", "wrong", found, "a real CLIP needs 1 GiB: end other programs")
    return Finding("device", "ok", found)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
