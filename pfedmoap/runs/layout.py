"""Where a run keeps each of its files, and which of them are public in a private run.

Run folders are shared between people. The folder of a private run is therefore divided:

```
config.json       public: options
task.json         public: class names, templates, backbone
metrics.jsonl     public: who took part, budgets, bytes, and what follows from noisy uploads
checkpoint.json   public: names of the server's files; the whole one is private
server/           public: made of noisy uploads alone
privacy.json      public: the guarantee
ledgers/          public: rounds and budgets
private/          all else, readable by its owner only: clients' models, counts of their images,
                  losses, every result of evaluation, under the names that they have in other
                  runs, and the rest of task.json and metrics.jsonl
```

Public files are listed here; any other file is private.
Other runs keep everything in one place.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.storage.own_files import refuse_link

PRIVATE = "private"
PRIVATE_TASK = f"{PRIVATE}/task.json"
MARK = "private_part"  # in task.json: where the rest of the run is

_PUBLIC = ("config.json", "task.json", "metrics.jsonl", "checkpoint.json", "privacy.json")
_PUBLIC_FOLDERS = ("server", "ledgers")
_PUBLIC_TASK = ("data", "class_names", "templates", "domains", "backbone")
_PUBLIC_METRICS = (
    "round",
    "cohort",
    "sat_out",
    "epsilon",
    "rejected",
    "served",
    "traffic",
    "privacy",
)

Record = Mapping[str, Any]  # JSON of any shape


@dataclass(frozen=True)
class Layout:
    """Where the files of one run are.

    Attributes:
        run: The run's folder.
        divided: Whether it has a private part.
    """

    run: Path
    divided: bool

    def is_private(self, name: str) -> bool:
        """Whether a file, named as in an undivided run, is in the private part."""
        public = name in _PUBLIC or name.split("/")[0] in _PUBLIC_FOLDERS
        return self.divided and not public

    def where(self, name: str) -> Path:
        """Where a file is, named as in an undivided run.

        Raises:
            RunError: It is in the private part, which is absent.
        """
        return self.private_part / name if self.is_private(name) else self.run / name

    @property
    def part(self) -> Path:
        """Where the whole manifest is: the private part of a divided run, else the run.

        Raises:
            RunError: The private part is not here.
        """
        return self.private_part if self.divided else self.run

    @property
    def private_part(self) -> Path:
        """The folder of the private part.

        Raises:
            RunError: It is absent: only the public part was copied.
        """
        folder = self.unchecked_private_part
        if not folder.is_dir():
            raise RunError(
                f"{self.run} is the public part of a private run: {folder} is missing, and with it "
                "clients' models and all results of evaluation. Use the folder that it was "
                "trained in"
            )
        return folder

    @property
    def unchecked_private_part(self) -> Path:
        """The same folder, whether or not it exists."""
        return self.run / PRIVATE

    def make(self) -> None:
        """Make the private part, accessible to its owner only; does nothing if undivided."""
        if self.divided:
            make_private_folder(self.run)

    def task(self, task: Record) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split the task's description into its public and its private part."""
        public, private = self._divide(task, _PUBLIC_TASK)
        return ({**public, MARK: PRIVATE} if self.divided else public), private

    def metrics(self, record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split a round's record into its public and its private part."""
        return self._divide(record, _PUBLIC_METRICS)

    def _divide(
        self, record: Record, public: tuple[str, ...]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.divided:
            return dict(record), {}
        return (
            {key: value for key, value in record.items() if key in public},
            {key: value for key, value in record.items() if key not in public},
        )


def make_private_folder(parent: Path) -> Path:
    """Make a folder that only its owner can access, or restrict an existing one.

    Args:
        parent: The run or the comparison.

    Returns:
        The folder, with permissions 0700.

    Raises:
        RunError: There is a link of its name.
    """
    folder = parent / PRIVATE
    refuse_link(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    return folder
