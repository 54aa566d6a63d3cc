"""Extending a finished run, or one that is going on, by more rounds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pfedmoap.errors import RunError
from pfedmoap.runs.amend import amend
from pfedmoap.runs.commit import commit, current_manifest, layout_of
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import claimed
from pfedmoap.runs.same_run import refuse_other_run

TABLE = "per_client.csv"  # ends a finished run


def extend(run: Path, config: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> bool:
    """Give a run more rounds, where a configuration differs from its own in that alone.

    Any other difference is left to the check of `RunDirectory.create`.

    Args:
        run: The run's folder; it may be absent.
        config: The new configuration.
        task: What it says of the data, which must be the run's; ``None`` where nothing does.

    Returns:
        Whether it was extended.

    Raises:
        RunError: The run's noise, or its step sizes, were made for so many rounds; or it would get
            fewer; or it was started on other data. Nothing was changed.
    """
    manifest = claimed(run) if run.exists() else None
    if manifest is None or manifest.round == 0:
        return False
    old = RunDirectory(run).config
    before, now = (of.get("rounds", {}).get("rounds") for of in (old, config))
    same = {**config, "rounds": {**config["rounds"], "rounds": before}}
    if before == now or same != old:
        return False
    if now < manifest.round:
        raise RunError(
            f"{run} has {manifest.round} complete rounds; rounds.rounds {now} would be fewer"
        )
    privacy = old.get("privacy", {})
    if privacy.get("name", "none") != "none" and privacy.get("noise_multiplier") is None:
        raise RunError(
            f"the noise of {run} was made to last for {before} rounds; a private run is extended "
            "only where privacy.noise_multiplier was given. Start another run, with "
            "privacy.ledgers to add up what both spend"
        )
    training = old.get("training", {})
    if training.get("horizon", "round") == "run" and (
        training.get("schedule", "constant") != "constant"
        or old.get("method", {}).get("gate_schedule", "constant") != "constant"
    ):
        raise RunError(
            f"the step sizes of {run} fall to zero over its {before} rounds, and those of another "
            "number of rounds would have been others from the start. Start another run"
        )
    layout = layout_of(run)
    if task is not None:
        known = RunDirectory(run).task
        refuse_other_run(run, (old, known), (old, dict(task)), (layout.divided, layout.divided))
    found = current_manifest(run)
    layout.where(TABLE).unlink(missing_ok=True)  # without it the run counts as unfinished
    sums = {name: checksum for name, checksum in found.sha256.items() if name != TABLE}
    commit(layout, replace(found, sha256=sums))
    amend(run, config=config)
    return True
