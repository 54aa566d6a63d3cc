"""CSV files in the run's folder: figures by round, tables of clients, pictures."""

from collections.abc import Mapping
from typing import Any

from eval.api.rows import Row
from eval.tracking.choose import FOLDER
from eval.tracking.public import FIELDS, config_text, csv_text
from eval.tracking.tracker import Final, Tracked
from pfedmoap.runs.log import Record
from pfedmoap.storage.atomic_files import write_bytes


class CSVTracker:
    """Writes ``tracking/csv/`` in the run's folder: ``rounds.csv`` after each round.

    Files are replaced as a whole, so that a reader never sees a part of one.
    """

    kind = "csv"

    def open(
        self,
        tracked: Tracked,
        known: Mapping[str, Any] | None,  # noqa: ARG002
        noted: int,  # noqa: ARG002
    ) -> tuple[Record, int | None]:
        """Begin anew with each start: what was written before is written again."""
        self._folder = tracked.run / FOLDER / "csv"
        self._rows: list[Row] = []
        write_bytes(self._folder / "config.yaml", config_text(tracked.config).encode())
        return {}, 0

    def log(self, figures: Row, clients: list[Row]) -> None:  # noqa: ARG002
        """Add a line; the tables of clients come at the end."""
        self._rows.append(figures)
        write_bytes(self._folder / "rounds.csv", csv_text(self._rows, FIELDS).encode())

    def finish(self, final: Final) -> None:
        """Write tables and pictures."""
        for name, content in final.files.items():
            write_bytes(self._folder / name, content.encode())
        for drawn in final.pictures:
            write_bytes(self._folder / f"{drawn.name}.png", drawn.png)

    def close(self) -> None:
        """Nothing is open."""
