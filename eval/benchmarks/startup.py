"""Measure how long commands take to start, against a Python that imports torch and nothing else.

Each command runs in a process of its own; seconds are those that it computes, since a busy
machine blurs the wall's. The fastest run counts.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c 'import torch'": ("-c", "import torch"),
    "pfedmoap --help": ("-m", "eval.cli", "--help"),
    "pfedmoap train --help": ("-m", "eval.cli", "train", "--help"),
}


def main(repeats: int = 3, json_file: str | None = None) -> None:
    """Print seconds and ratios.

    Args:
        repeats: Runs of each command.
        json_file: Where rows are written, too.
    """
    rows, plain = [], 0.0
    for name, arguments in COMMANDS.items():
        seconds = min(_seconds(arguments) for _ in range(repeats))
        plain = plain or seconds
        rows.append(
            {"command": name, "CPU s": f"{seconds:.2f}", "times torch": f"{seconds / plain:.2f}"}
        )
        print(f"{name:28s} {seconds:6.2f} s of CPU {seconds / plain:6.2f} x importing torch")
    if json_file is not None:
        Path(json_file).write_text(json.dumps(rows))


def _seconds(arguments: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
