"""TensorBoard's event files, in the run's folder."""

import io
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from eval.api.rows import Row
from eval.tracking.choose import FOLDER
from eval.tracking.public import config_text
from eval.tracking.tracker import Final, Tracked
from pfedmoap.runs.log import Record


class TensorBoardTracker:
    """Writes ``tracking/tensorboard/`` in the run's folder: ``tensorboard --logdir RUN`` shows it.

    Figures of a round are scalars of their names; clients' accuracies are a histogram
    (``clients/accuracy``). Configuration, tables and pictures are texts and images.
    """

    kind = "tensorboard"

    def open(
        self, tracked: Tracked, known: Mapping[str, Any] | None, noted: int
    ) -> tuple[Record, int | None]:
        """Start a file; TensorBoard reads all files of the folder as one run."""
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        # Steps behind the noted round, of a process that was killed before it could note them, are
        # hidden.
        purge = None if known is None else noted + 1
        self._step = noted
        self._writer = writer(str(tracked.run / FOLDER / "tensorboard"), purge_step=purge)
        if known is None:
            self._text("config", config_text(tracked.config), 0)
            self._writer.flush()
        return {}, None

    def log(self, figures: Row, clients: list[Row]) -> None:
        """Write a round, and have it on disk."""
        step = figures["round"]
        for name, value in figures.items():
            if name != "round":
                self._writer.add_scalar(name, value, step)
        accuracy = [row["accuracy"] for row in clients if row["accuracy"] is not None]
        if accuracy:
            self._writer.add_histogram("clients/accuracy", np.array(accuracy), step)
        self._writer.flush()
        self._step = step

    def finish(self, final: Final) -> None:
        """Write tables and pictures at the last step."""
        step = self._step
        if final.clients:
            self._writer.add_text("clients/table", _markdown(final.clients), step)
        for name, content in final.files.items():
            if name == "privacy.yaml":
                self._text("privacy", content, step)
        for drawn in final.pictures:
            pixels = np.asarray(Image.open(io.BytesIO(drawn.png)).convert("RGB"))
            self._writer.add_image(f"report/{drawn.name}", pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _text(self, name: str, yaml: str, step: int) -> None:
        self._writer.add_text(name, "".join(f"    {line}\n" for line in yaml.splitlines()), step)


def _markdown(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(name, "")).replace("|", "\\|") for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
