"""A sweep's folder: what was tried, what failed, what was chosen; and its comparison.

```
sweep.json        the file, the trials, the failures, the choice
comparison.json   the same as a comparison, which `pfedmoap report` opens
cells/            run directories: cells/validation/TRIAL/SEED, and cells/test/TRIAL/SEED
jobs/             logs of the jobs
chosen.yaml       options of the chosen trial, for `pfedmoap train --config`
table.*           tables, as of a comparison; private where a trial is
```
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.comparison.cells import SOURCE
from eval.results import is_finished, read_result
from eval.sweep.spec import VALIDATION, Sweep, Trial
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import read_json, write_bytes
from pfedmoap.storage.own_files import contents_in_words, holds_nothing, refuse_link

FILE = "sweep.json"
JOBS = "jobs"


@dataclass
class SweepRecord:
    """What is known of a sweep; it is on disk whenever something runs.

    Attributes:
        out: Its folder.
        sweep: The sweep.
        trials: The trials so far, in order.
        failed: Why jobs failed, by job.
        chosen: Number of the chosen trial; ``None`` before the choice. There are no more trials
            after it.
    """

    out: Path
    sweep: Sweep
    trials: list[Trial] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    chosen: int | None = None

    @classmethod
    def open(cls, out: Path, sweep: Sweep, *, resume: bool) -> "SweepRecord":
        """Begin in a folder, or go on with the sweep that is there.

        Raises:
            RunError: A sweep is there and ``resume`` is false, or it is another one; or the
                folder holds something else. Nothing was touched.
        """
        if holds_nothing(out):
            return cls(out, sweep)
        file = out / FILE
        refuse_link(file)
        if not file.exists():
            raise RunError(
                f"{out} holds things that are no sweep of this package ({contents_in_words(out)}); "
                "nothing was touched. Choose a folder with --out that is absent or empty"
            )
        if not resume:
            raise RunError(
                f"{out} holds a sweep already; continue it with --resume, or choose another folder "
                "with --out"
            )
        found = read_json(file)
        record = cls(
            out,
            sweep,
            [Trial(**trial) for trial in found["trials"]],
            dict(found["failed"]),
            found["chosen"],
        )
        record._refuse_another(found["file"])
        return record

    def _refuse_another(self, before: Mapping[str, Any]) -> None:
        def compared(source: Mapping[str, Any]) -> Mapping[str, Any]:
            search = source.get("search", "grid")
            if isinstance(search, dict):
                search = {key: value for key, value in search.items() if key != "trials"}
            kept = {key: value for key, value in source.items() if key != "executor"}
            return json.loads(json.dumps(kept | {"search": search}))  # type: ignore[no-any-return]  # JSON

        old, new = compared(before), compared(self.sweep.source)
        differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if differing:
            raise RunError(
                f"{self.out} was started with another file (differing: {', '.join(differing)}). "
                "Only search.trials and executor may change: choose another folder with --out"
            )
        if self.chosen is not None and before.get("search") != self.sweep.source.get("search"):
            raise RunError(
                f"{self.out} has chosen a trial and tested it, so that more trials would be chosen "
                "with its test images in mind. Choose another folder with --out"
            )

    def write(self) -> None:
        """Write it, and the comparison of its trials."""
        content = {
            "file": self.sweep.source,
            "trials": [asdict(trial) for trial in self.trials],
            "failed": self.failed,
            "chosen": self.chosen,
        }
        write_bytes(self.out / FILE, _json(content))
        if self.trials:
            source = self.sweep.comparison_source(self.trials, self.chosen_trial)
            write_bytes(self.out / SOURCE, _json(source))

    @property
    def chosen_trial(self) -> Trial | None:
        """The chosen trial."""
        return None if self.chosen is None else self.trials[self.chosen - 1]

    def scores(self) -> dict[int, float]:
        """Mean over seeds of the metric on validation images, by trial, of those that are whole.

        Raises:
            RunError: A run is damaged, or has no such figure.
        """
        found = {}
        for trial in self.trials:
            places = self.sweep.folders(trial, VALIDATION)
            folders = [self.out / place for place in places.values()]
            if all(is_finished(folder) for folder in folders):
                found[trial.number] = sum(map(self._figure, folders)) / len(folders)
        return found

    def _figure(self, folder: Path) -> float:
        value = getattr(read_result(folder).last.summary, self.sweep.metric)
        if value is None:
            raise RunError(
                f"{folder} has no {self.sweep.metric}: its method has no such model. Choose "
                "another metric"
            )
        return float(value)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()  # in the order of the file
