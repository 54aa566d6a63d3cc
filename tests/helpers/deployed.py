"""A federation of real processes on this machine: folders of digits, and commands that end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eval.deployment.example_data import write_digits
from pfedmoap.data.digits import Digits
from tests.helpers.places import ROOT

CLASSES = tuple(Digits().read().class_names)
OPTIONS = [
    *(
        "--method.context_length",
        "4",
        "--training.epochs",
        "1",
        "--training.clients_per_batch",
        "1",
    ),
    *("--training.learning_rate", "0.1", "--device", "cpu"),
]


def digits_of(site: int, folder: Path, each: int = 6, classes: int = 10) -> Path:
    """Write a few images of the first classes, others for each site, as ``folder/class/*.png``."""
    sites = [folder.name if number == site else f"skipped-{number}" for number in range(site + 1)]
    write_digits(folder.parent, sites, each)
    for number in range(site):
        shutil.rmtree(folder.parent / f"skipped-{number}")
    for name in CLASSES[classes:]:
        shutil.rmtree(folder / name)
    return folder


@contextmanager
def command(
    log: Path, *words: str, module: str = "eval.cli"
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command of ours, or another module, and end it as an operator would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=environment,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(log: Path, text: str, processes: Sequence["subprocess.Popen[bytes]"] = ()) -> None:
    """Wait until a log says something, as long as all processes run."""
    for _ in range(3000):
        if log.exists() and text in log.read_text(errors="replace"):
            return
        for process in processes:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    raise AssertionError(f"{log} never said {text!r}: {log.read_text(errors='replace')[-2000:]}")


def left_over(folder: Path) -> list[str]:
    """Command lines of processes of this machine that name a folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir() if Path("/proc").exists() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
