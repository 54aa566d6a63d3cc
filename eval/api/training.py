"""Training from Python."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.api.callbacks import Callback
from eval.api.options import Sections, resolved
from eval.api.run import Run
from eval.experiment import ExperimentLoader
from eval.running import train_into
from eval.tracking.choose import Tracks


def train(
    config: Sections | str | Path | None = None,
    *,
    out: str | Path = "runs/train",
    resume: bool = False,
    progress: bool = False,
    callbacks: Iterable[Callback] = (),
    track: str | Iterable[str] = (),
    **options: Any,  # of the configuration
) -> Run:
    """Train a federation of personalised clients and test every client.

    What ``pfedmoap train`` does: same options, same checks, same files. Nothing is printed, and
    nothing of the process is changed.

    Args:
        config: Options by section, or a YAML file that holds them; ``None`` for the defaults.
        out: Folder of the run: absent, empty, or a run where ``resume`` is true.
        resume: Continue the run that is in the folder already (``--resume``).
        progress: Show progress bars on standard error.
        callbacks: Are told of each round.
        track: Trackers to tell of each round (``--track``): ``"tensorboard,csv"`` or a list of
            names; `pfedmoap.tracker` makes one with options of its own.
        **options: Options on top of ``config``: ``method="promptfl"``, ``method__experts=5``,
            ``rounds={"rounds": 3}``, ``seed=1``; see `eval.api.options.resolved`.

    Returns:
        The finished run.

    Raises:
        PFedMoAPError: An option is wrong (`ConfigError`), the folder cannot be used (`RunError`),
            the method has no guarantee under the privacy options (`PrivacyError`), or another part
            of the configuration cannot be satisfied.
    """
    chosen = resolved(config, options)
    loader = ExperimentLoader(progress=progress)
    with Tracks.of(track).told(Path(out), loader, others=callbacks) as told:
        train_into(Path(out), chosen, loader, resume=resume, announce=told.begin, listen=told.round)
        told.end()
    return Run(Path(out), loader)
