"""A tracker as a callback."""

from pathlib import Path
from typing import Any

from eval.api.callbacks import Callback
from eval.tracking.choose import made


def tracker(kind: str, run: str | Path, **options: Any) -> Callback:  # of the tracker
    """Make a callback that tells a tracker of a run.

    Args:
        kind: ``csv``, ``tensorboard``, ``mlflow`` or ``wandb``.
        run: The run's folder, which `pfedmoap.train` gets as ``out``.
        **options: Of the tracker: ``uri`` and ``experiment`` for MLflow; ``project``, ``entity``
            and ``mode`` for Weights & Biases.

    Returns:
        The callback.

    Raises:
        ConfigError: There is no such tracker or option, or its package is not installed.
    """
    own = made(kind, options)
    from eval.tracking.tracker import Tracking  # which draws pictures, and so needs matplotlib

    return Tracking(own, Path(run))
