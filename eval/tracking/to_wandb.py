"""Weights & Biases, offline unless the user says otherwise."""

import io
import logging
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

from PIL import Image

from eval.api.rows import Row
from eval.tracking.tracker import Final, Tracked
from pfedmoap.errors import RunError
from pfedmoap.runs.log import Record

logger = logging.getLogger(__name__)
_WAIT_SECONDS = 60.0
_QUIET: Mapping[str, Any] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_disable_machine_info": True,
    "init_timeout": 20,
}
"""Nothing of the machine, the user, the code or the terminal is collected."""


class WandBTracker:
    """Logs to a folder that ``wandb sync`` sends, or with ``mode="online"`` to a server.

    Args:
        project: The project; ``None`` takes ``WANDB_PROJECT``, and without it ``pfedmoap``.
        entity: Whose; ``None`` takes ``WANDB_ENTITY``, and without it your own.
        mode: ``offline`` or ``online``; ``None`` takes ``WANDB_MODE``, and without it ``offline``.
    """

    kind = "wandb"

    def __init__(
        self, project: str | None = None, entity: str | None = None, mode: str | None = None
    ) -> None:
        self._project, self._entity, self._mode = project, entity, mode

    def open(
        self, tracked: Tracked, known: Mapping[str, Any] | None, noted: int
    ) -> tuple[Record, int | None]:
        """Start a run, or go on with the one of the known id."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = import_module("wandb")
        tracked.home.mkdir(parents=True, exist_ok=True)
        identity = {
            "id": uuid4().hex[:8],
            "project": self._project or os.environ.get("WANDB_PROJECT") or "pfedmoap",
        } | dict(known or {})
        mode = self._mode or os.environ.get("WANDB_MODE") or "offline"
        _wait_for_a_name(tracked.home, identity["id"])
        self._run = wandb.init(
            id=identity["id"],
            project=identity["project"],
            entity=self._entity,
            name=tracked.name,
            group=tracked.group,
            config=dict(tracked.config),
            dir=str(tracked.home),
            mode=mode,
            resume=None if mode == "offline" else "allow",
            reinit="create_new",  # beside a run that the program has of its own
            settings=wandb.Settings(**_QUIET),
        )
        self._round = noted
        return identity, None

    def log(self, figures: Row, clients: list[Row]) -> None:  # noqa: ARG002
        """Log a round as the step of its number."""
        self._round = figures["round"]
        self._run.log(dict(figures), step=self._round)

    def finish(self, final: Final) -> None:
        """Log tables and pictures at the last step."""
        wandb = import_module("wandb")
        shown: dict[str, Any] = {}
        for name, rows in (("clients", final.clients), ("clients_by_round", final.by_round)):
            if rows:
                names = list(dict.fromkeys(key for row in rows for key in row))
                cells = [[row.get(key) for key in names] for row in rows]
                shown[name] = wandb.Table(columns=names, data=cells)
        for drawn in final.pictures:
            image = Image.open(io.BytesIO(drawn.png))
            shown[f"report/{drawn.name}"] = wandb.Image(image, caption=drawn.caption)
        if stated := final.files.get("privacy.yaml"):
            self._run.summary["privacy"] = stated
        if shown:
            self._run.log(shown, step=self._round or None)

    def close(self) -> None:
        """End the run; a server that does not answer is not waited for."""
        done = threading.Thread(target=self._run.finish, daemon=True)
        done.start()
        done.join(_WAIT_SECONDS)
        if done.is_alive():
            raise RunError(
                f"the server did not take all in {_WAIT_SECONDS:g} s; what it lacks lies in "
                f"{self._run.dir}: send it with `wandb sync`"
            )


def _wait_for_a_name(home: Path, run: str) -> None:
    """Wait out the second in which this run was begun before: its folder would be written over."""
    while any(home.glob(f"wandb/*run-{datetime.now():%Y%m%d_%H%M%S}-{run}")):
        sleep(0.05)
