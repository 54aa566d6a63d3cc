"""A tracker behind a callback: it follows a run's folder, and its failures end nothing."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eval.api.callbacks import Callback, RoundReport
from eval.api.rows import Row
from eval.experiment import ExperimentLoader
from eval.tracking.choose import FOLDER
from eval.tracking.pictures import Drawn, pictures_of
from eval.tracking.public import (
    client_rows,
    config_text,
    csv_text,
    final_table,
    public_rounds,
    scalars,
    shows_results,
    statement,
)
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import read_json, write_json

logger = logging.getLogger(__name__)

_MOST_FAILURES = 3  # in a row; a round's training may be shorter than a server's time-out


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told when it begins.

    Attributes:
        name: What to call the run.
        run: The run's folder.
        home: Folder for what several runs share, such as a data base; the run's own ``tracking``
            where it stands alone.
        config: Its resolved configuration, by section.
        privacy: The statement of its guarantee; empty without one.
        group: What it belongs to, such as a comparison; ``None`` where it stands alone.
    """

    name: str
    run: Path
    home: Path
    config: Mapping[str, Any]
    privacy: Mapping[str, Any]
    group: str | None


@dataclass(frozen=True)
class Final:
    """What a tracker is told at the end.

    Attributes:
        clients: The table of clients, one row each.
        by_round: The same by round: one row for each round and client.
        pictures: Pictures of the report; none for a private run.
        files: Further texts by file name.
    """

    clients: list[Row]
    by_round: list[Row]
    pictures: list[Drawn]
    files: Mapping[str, str]


class Tracker(Protocol):
    """Writes to one place. What it raises becomes a warning (`Tracking`)."""

    @property
    def kind(self) -> str:
        """Its name, as in ``--track``."""
        ...

    def open(
        self, tracked: Tracked, known: Mapping[str, Any] | None, noted: int
    ) -> tuple[Record, int | None]:
        """Begin to track a run, or go on with it.

        Args:
            tracked: The run.
            known: What an earlier call for this run returned first; ``None`` for the first time.
            noted: The last round that is known to be logged.

        Returns:
            What identifies the tracked run, as JSON, and the last round that it has; ``None`` where
            the one that was noted counts.
        """
        ...

    def log(self, figures: Row, clients: list[Row]) -> None:
        """Log a round.

        Args:
            figures: Numbers by name, with the ``round``.
            clients: Its table of clients.
        """
        ...

    def finish(self, final: Final) -> None:
        """Log what is known at the end of a run."""
        ...

    def close(self) -> None:
        """Let everything go; the run may be continued later."""
        ...


class Tracking(Callback):
    """Tells a tracker of a run.

    All that is logged is read from the run's folder, behind the last round that the tracker has:
    so a run that goes on adds to the tracked run what that lacks, and nothing twice, and a round
    that could not be logged follows later. What a tracker raises becomes a warning; after three
    failures in a row it is left alone.

    Args:
        tracker: Where to.
        run: The run's folder.
        home: See `Tracked`; ``None`` for the run's own.
        name: What to call the run; ``None`` for the folder's name.
        group: See `Tracked`.
        loader: Loads what pictures of the report need.
    """

    def __init__(
        self,
        tracker: Tracker,
        run: Path,
        *,
        home: Path | None = None,
        name: str | None = None,
        group: str | None = None,
        loader: ExperimentLoader | None = None,
    ) -> None:
        self._tracker, self._run = tracker, run
        self._home = home or run / FOLDER
        self._name, self._group = name or run.resolve().name, group
        self._loader = loader or ExperimentLoader(progress=False)
        self._last: int | None = None  # the last round that was logged; `None`: not open
        self._known: Record = {}
        self._finished: int | None = None  # the round whose end was logged
        self._failures = 0

    def on_train_begin(self, privacy: Mapping[str, Any]) -> None:
        """Open the tracker, and log what it lacks of a run that goes on."""
        self._privacy = privacy
        self._attempt("begin", self._catch_up)

    def on_round_end(self, report: RoundReport) -> None:
        """Log the round."""
        self._attempt(f"log round {report.round}", lambda: self._catch_up(report))

    def on_train_end(self, report: RoundReport | None) -> None:  # noqa: ARG002
        """Log the tables and pictures, and close."""
        self._attempt("log the end", self._finish, last=True)
        self.close()

    def close(self) -> None:
        """Let the tracker go; does nothing where that has happened."""
        if self._last is not None:
            self._last = None
            self._attempt("close", self._tracker.close, last=True)

    def _attempt(self, what: str, action: Callable[[], None], *, last: bool = False) -> None:
        if self._failures >= _MOST_FAILURES:
            return
        try:
            action()
        except Exception as error:  # of libraries, disks and servers: of any kind
            self._failures += 1
            again = not last and self._failures < _MOST_FAILURES
            logger.warning(
                "tracker %s of %s could not %s: %s; %s",
                self._tracker.kind,
                self._run,
                what,
                " ".join(str(error).split())[:300] or type(error).__name__,
                "training goes on, and it is tried again after the next round"
                if again
                else "the run is whole without it",
            )
        else:
            self._failures = 0

    @property
    def _file(self) -> Path:
        return self._run / FOLDER / f"{self._tracker.kind}.json"

    def _open(self) -> int:
        note = read_json(self._file) if self._file.exists() else {}
        tracked = Tracked(
            self._name,
            self._run,
            self._home,
            RunDirectory(self._run).config,
            self._privacy,
            self._group,
        )
        noted, self._finished = note.get("round", 0), note.get("finished")
        self._known, last = self._tracker.open(tracked, note.get("identity"), noted)
        self._last = noted if last is None else last
        self._note()
        return self._last

    def _note(self) -> None:
        note = {"identity": self._known, "round": self._last, "finished": self._finished}
        write_json(self._file, note)

    def _catch_up(self, report: RoundReport | None = None) -> None:
        last = self._open() if self._last is None else self._last
        next_one = report is not None and report.round == last + 1
        if report is not None and next_one and shows_results(self._run):
            lacking = [report.record]  # the run has no private part: its whole record is public
        else:
            lacking = public_rounds(self._run, last)
        for record in lacking:
            self._tracker.log(scalars(record), client_rows(record))
            self._last = record["round"]
            self._note()

    def _finish(self) -> None:
        self._catch_up()
        if self._finished == self._last:
            return  # a finished run that was resumed: nothing is new
        drawn: list[Drawn] = []
        if shows_results(self._run):
            try:
                drawn = pictures_of(self._run, self._loader)
            except Exception as error:  # a picture less is no reason to lose the tables
                logger.warning("no pictures of %s for trackers: %s", self._run, error)
        clients = final_table(self._run)
        by_round = [row for record in public_rounds(self._run, 0) for row in client_rows(record)]
        files = {
            "config.yaml": config_text(RunDirectory(self._run).config),
            "clients.csv": csv_text(clients),
            "clients_by_round.csv": csv_text(by_round),
        }
        if stated := statement(self._run):
            files["privacy.yaml"] = config_text(stated)
        self._tracker.finish(Final(clients, by_round, drawn, files))
        self._finished = self._last
        self._note()
