"""Random faults on a tiny run: kills, flipped bits, truncated and swapped files, a full disk.

Each fault is put on a copy of a run that has two of three rounds; then the run is continued as a
user would, and repaired if it was refused. What may happen: the end is that of a run without a
fault, bit for bit, or one clear error. Anything else (another error, another end) is a failure.
"""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eval.choices import schema
from eval.experiment import Experiment, ExperimentLoader
from eval.running import run_experiment
from pfedmoap.errors import PFedMoAPError, RunError, StorageError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.repair import repair
from pfedmoap.storage.own_files import HOLDER

KINDS = ("kill", "bit flip", "truncation", "swap", "full disk")
_CONFIG: Mapping[str, Any] = {  # options of any type
    "data": "digits",
    "partition": {"name": "dirichlet", "clients": 4, "alpha": 0.5},
    "method": {"name": "promptfl", "context_length": 2},
    "sampling": {"shots": 2},
    "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.05},
    "rounds": {"rounds": 3, "participation": 0.75},
}
_STATUS = {"same": 0, "refused": 10, "failure": 11}


@dataclass(frozen=True)
class Table:
    """How many faults of each kind ended how.

    Attributes:
        counts: By kind and end: ``same`` (nobody noticed, the end is the right one), ``repaired``
            (refused, then repaired, then the right end), ``refused`` (one clear error, and nothing
            can be saved), ``failure``.
        failures: What went wrong, one line each.
    """

    counts: Mapping[tuple[str, str], int]
    failures: tuple[str, ...]


ENDS = ("same", "repaired", "refused", "failure")


class FaultWorld:
    """A run without a fault, and one that was stopped after two rounds.

    Args:
        folder: Where to work.
        cache: Folder of image features.
    """

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder = folder
        sections = {**_CONFIG, "features": {"cache": str(cache or folder / "cache")}}
        self._experiment = ExperimentLoader(progress=False).prepare(schema().resolve(sections))
        torch.set_num_threads(1)  # the parent forks
        _run(self._experiment, folder / "whole")
        self.end = ending(folder / "whole")
        _in_child(lambda: _killed_after(self._experiment, folder / "part", rounds=2))
        if RunDirectory(folder / "part").round != 2:
            raise RunError("the run that faults are put on could not be made")

    def one(self, kind: str, seed: int) -> tuple[str, str]:
        """Put one fault on a copy of the run; returns how it ended, and a line about it."""
        draw = random.Random(f"{kind} {seed}")
        run = self.folder / "fault"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / "part", run)
        what = f"{kind} {seed}"
        if kind == "kill":
            point = draw.randrange(1, 50)
            what += f": at file operation {point}"
            _in_child(lambda: _killed_at(self._experiment, run, point))
        elif kind == "full disk":
            size = draw.choice((0, 10, 100, 300, 600, 1000, 2000, 3000))
            what += f": files of at most {size} bytes"
            status = _in_child(lambda: _with_limit(self._experiment, run, size))
            if status == _STATUS["failure"]:
                return "failure", what + ": no clear error"
        else:
            what += ": " + damage(run, kind, draw)
        return self._continue(run, what)

    def _continue(self, run: Path, what: str) -> tuple[str, str]:
        try:
            _run(self._experiment, run)
        except PFedMoAPError:
            end = "repaired"
            try:
                repair(run)
                _run(self._experiment, run)
            except PFedMoAPError:
                return "refused", what
            except Exception as error:  # what a user would see as a traceback
                return "failure", f"{what}: {error!r} after a repair"
        except Exception as error:  # as above
            return "failure", f"{what}: {error!r}"
        else:
            end = "same"
        if ending(run) != self.end:
            return "failure", f"{what}: another end"
        if left := [file.name for file in run.rglob(".*") if file.name != HOLDER]:
            return "failure", f"{what}: left {left}"
        return end, what


def ending(run: Path) -> dict[str, bytes]:
    """What a run ends with: its states, tables and options, but not its times."""
    names = ("config.json", "task.json", "per_client.csv")
    folders = (run / "server", run / "clients")
    states = sorted(file for folder in folders for file in folder.rglob("*.safetensors"))
    found = {str(file.relative_to(run)): file.read_bytes() for file in states}
    return found | {name: (run / name).read_bytes() for name in names}


def damage(run: Path, kind: str, draw: random.Random) -> str:
    """Damage a run's files; returns what was done."""
    files = sorted(file for file in run.rglob("*") if file.is_file())
    file = draw.choice(files)
    name, content = file.relative_to(run), bytearray(file.read_bytes())
    if kind == "bit flip":
        position, bit = draw.randrange(len(content)), draw.randrange(8)
        content[position] ^= 1 << bit
        file.write_bytes(content)
        return f"bit {bit} of byte {position} of {name}"
    if kind == "truncation":
        length = draw.randrange(len(content))
        file.write_bytes(content[:length])
        return f"{name} at {length} of {len(content)} bytes"
    other = draw.choice([each for each in files if each != file])
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return f"{name} with {other.relative_to(run)}"


def inject(count: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Table:
    """Try a number of faults, as many of each kind.

    Args:
        count: How many.
        seed: Draws them.
        progress: Called with the number of faults that were tried.
    """
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        world = FaultWorld(Path(folder))
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            end, what = world.one(kind, seed * 10**6 + number)
            counts[kind, end] += 1
            failures += [what] if end == "failure" else []
            progress(number + 1)
    return Table(dict(counts), tuple(failures))


def _run(experiment: Experiment, out: Path) -> None:
    run_experiment(experiment, out, resume=True, progress=False)


def _in_child(work: Callable[[], None]) -> int:
    """Run in a forked child, which may be killed; returns its exit status."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode or 0


def _killed_after(experiment: Experiment, out: Path, rounds: int) -> None:
    def watch(done: int, _: int) -> None:
        if done == rounds:
            os.kill(os.getpid(), signal.SIGKILL)

    run_experiment(experiment, out, resume=True, progress=False, watch=watch)


def _killed_at(experiment: Experiment, out: Path, point: int) -> None:
    """Kill this process at some write, rename or flush to the disk."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("fsync", "replace", "unlink", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    _run(experiment, out)


def _with_limit(experiment: Experiment, out: Path, size: int) -> None:
    """Continue a run where no file may be larger than ``size`` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        _run(experiment, out)
    except StorageError:
        os._exit(_STATUS["refused"])
    except BaseException:
        os._exit(_STATUS["failure"])
    os._exit(_STATUS["same"])
